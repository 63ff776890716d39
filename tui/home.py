"""Home: the health of every part, what runs, what failed."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from appliance import wire
from tui.kinds import age, first_line, style


class Home(Static):
    """Text only; nothing in it is markup, for messages come from outside."""

    DEFAULT_CSS = "Home { padding: 1 2; height: 1fr; overflow-y: auto; }"

    def __init__(self) -> None:
        super().__init__("loading ...", id="home", markup=False)

    def show(self, status: wire.Status) -> None:
        self.update(home(status))


def home(status: wire.Status) -> Content:
    now = status["now"]
    lines: list[Content] = [
        Content(f"{status['url']}   up {age(status['started'], now)}   home {status['home']}"),
        Content(),
    ]
    for part in status["parts"]:
        mark = Content.styled("ok      ", "green") if part["ok"] else Content.styled("DEGRADED", "bold red")
        lines.append(
            Content.assemble(Content(f"{part['name']:<12}"), mark, Content(f"  {first_line(part['message'])}"))
        )
    lines += _briefs(
        "Runs and changes", status["active"], now, "Nothing runs. Press a to apply a spec, or try `appliance demo`."
    )
    if status["failed"]:
        lines += _briefs("Failed in the last day", status["failed"], now, "")
    for found in status["broken_specs"]:
        lines += [
            Content(),
            Content.styled(f"spec {found['name']} is not in force", "bold red"),
            Content(first_line(found["problem"])),
        ]
    counts = [f"{sum(phases.values())} {kind}" for kind, phases in sorted(status["counts"].items())]
    lines += [Content(), Content(", ".join(counts) or "nothing is declared yet")]
    return Content("\n").join(lines)


def _briefs(title: str, briefs: list[wire.Brief], now: float, empty: str) -> list[Content]:
    lines = [Content(), Content.styled(title, "bold")]
    for row in briefs:
        name = Content(f"{row['kind'] + '/' + row['name']:<32} ")
        phase = Content.styled(f"{row['phase']:<11}", style(row["phase"]) or "none")
        lines.append(
            Content.assemble(
                name, phase, Content(f" {age(row['since'], now):>5}  {first_line(row['message'] or row['url'])}")
            )
        )
    return lines if briefs else [*lines, Content(empty)]
