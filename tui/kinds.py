"""What each list shows and what can be done there: one table, from which keys, help and screens are made. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.client import gpu_words, words
from appliance.foreign import clean

Document = Mapping[str, Any]
Cells = tuple[str, ...]

GOOD = frozenset({"Running", "Ready", "Serving", "Succeeded", "in force"})
BAD = frozenset({"Failed", "Error", "Degraded", "Undone", "BROKEN"})
LONGEST_SUBJECT = 24
BAR = 10
BUSY = frozenset(
    {
        "Pending",
        "Preparing",
        "Starting",
        "Stopping",
        "Updating",
        "Deleting",
        "Canceling",
        "Waiting",
        "Rolling",
        "Swapping",
    }
)


@dataclass(frozen=True, slots=True)
class Action:
    """`verb` is what the app does with the row under the cursor."""

    key: str
    verb: str
    text: str


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    title: str
    columns: Cells
    cells: Callable[[Document, float], Cells]
    empty: str
    """What an empty list says: how to make the first one."""
    actions: tuple[Action, ...] = ()


LOGS = Action("l", "logs", "logs")
START = Action("s", "start", "start")
STOP = Action("x", "stop", "stop")
HISTORY = Action("h", "history", "history")
OPEN = Action("o", "open", "open in browser")
TERMINAL = Action("T", "terminal", "terminal")
RESTART = Action("R", "restart", "restart")
RENAME = Action("N", "rename", "rename")
DELETE = Action("D", "delete", "delete")


def age(then: float | None, now: float) -> str:
    """`42s`, `5m`, `3h`, `2d`; `-` for never."""
    if not then:
        return "-"
    seconds = max(0.0, now - then)
    for limit, unit, size in ((120, "s", 1), (7200, "m", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds / size)}{unit}"
    return f"{int(seconds / 86_400)}d"


def ahead(then: float | None, now: float) -> str:
    """`in 5m`; `now` for what is due; `-` for never."""
    if not then:
        return "-"
    return f"in {age(now - (then - now), now)}" if then > now else "now"


def first_line(text: str) -> str:
    """What fits into a cell: one line, and nothing that moves a cursor."""
    return clean(text.partition("\n")[0])


def short(name: str) -> str:
    """One long name must not take the room of the column that tells something."""
    name = first_line(name)
    return name if len(name) <= LONGEST_SUBJECT else f"{name[: LONGEST_SUBJECT - 1]}…"


def subject(row: Document) -> str:
    """The name a row is found again by."""
    return str(row.get("name") or row.get("id"))


def singular(kind: str) -> str:
    return f"{kind.removesuffix('ies')}y" if kind.endswith("ies") else kind.removesuffix("s")


def _resource(row: Document, now: float) -> Cells:
    detail = row["problem"] or row["message"] or row["url"]
    return (row["name"], row["phase"], age(row["created"], now), row["source"], first_line(detail))


def _deployment(row: Document, now: float) -> Cells:
    name, phase, *since, _ = _resource(row, now)
    return (name, phase, str(row["status"].get("ready", 0)), *since, first_line(words.detail(row, now)))


def _workflow(row: Document, now: float) -> Cells:
    name, phase, since, source, detail = _resource(row, now)
    return (name, phase, since, source, ahead(row.get("next_run"), now), detail)


def _repository(row: Document, now: float) -> Cells:
    status = row["status"]
    newest = f"{status['ref'].rpartition('/')[2]} {status['commit'][:12]}" if status.get("commit") else "-"
    started = " ".join(status.get("started") or ()) or "-"
    detail = first_line(row["problem"] or row["message"])
    return (row["name"], row["phase"], age(status.get("looked"), now), first_line(newest), started, detail)


def _run(row: Document, now: float) -> Cells:
    took = age(row["started"], row["finished"] or now) if row["started"] else "-"
    message = row["message"] if row["message"].lower() != row["phase"].lower() else ""
    cause = f"{row['cause']} {row['parent']}" if row["parent"] else row["cause"]
    return (row["name"], row["phase"], cause, age(row["created"], now), took, first_line(message))


def _dataset(row: Document, now: float) -> Cells:
    description = row["status"].get("description", "")
    return (row["name"], row["phase"], age(row["created"], now), first_line(description or row["message"]))


def _model(row: Document, now: float) -> Cells:
    return (row["id"], row["name"], row["type"], f"{row['dataset']}:{row['version']}", age(row["created"], now))


def _event(row: Document, now: float) -> Cells:
    when = time.strftime("%H:%M:%S", time.localtime(row["at"]))
    return (when, row["level"], short(f"{row['kind']}/{row['name']}"), row["reason"], first_line(row["message"]))


def _gpu(row: Document, now: float) -> Cells:
    own = gpu_words.whole(row)
    memory = f"{_gib(row['used'])} of {_gib(row['memory'])}"
    state = "split" if row["split"] and not row["lost"] else first_line(gpu_words.state(own))
    return (
        *(str(row["index"]), short(row["name"]), bar(row["utilisation"]), memory, gpu_words.power(row)),
        *(gpu_words.number(row["temperature"], " C"), state, first_line(gpu_words.holders(own))),
    )


def bar(percent: int | None) -> str:
    """Of a hundred, the same length for each; `-` for what nobody tells."""
    if percent is None:
        return "-"
    full = min(max(percent, 0), 100) * BAR // 100
    return f"{'█' * full}{'░' * (BAR - full)} {percent:3d}%"


def _gib(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**30:.1f} GiB"


def _spec(row: Document, now: float) -> Cells:
    state = "BROKEN" if row["problem"] else "in force"
    return (row["name"], state, " ".join(row["declares"]), first_line(row["problem"]))


RESOURCE = ("name", "phase", "age", "source", "detail")
KINDS = (
    Kind("notebooks", "Notebooks", RESOURCE, _resource,
         "No notebooks yet. Press a to apply a spec, or type `appliance notebook create NAME`.",
         (START, STOP, RESTART, OPEN, TERMINAL, LOGS, HISTORY, RENAME, DELETE)),
    Kind("runs", "Runs", ("name", "phase", "cause", "age", "took", "detail"), _run,
         "No runs yet. Press r on a workflow.",
         (Action("x", "cancel", "cancel"), Action("e", "resume", "resume"), Action("y", "replay", "replay"), LOGS,
          DELETE)),
    Kind("workflows", "Workflows", ("name", "phase", "age", "source", "next run", "detail"), _workflow,
         "No workflows yet. Press a to apply a spec file.", (Action("r", "run", "run"), DELETE)),
    Kind("deployments", "Deployments", ("name", "phase", "ready", "age", "source", "detail"), _deployment,
         "No deployments yet. Press a to apply a spec file.", (START, STOP, OPEN, TERMINAL, LOGS, DELETE)),
    Kind("datasets", "Datasets", ("name", "phase", "age", "detail"), _dataset,
         "No datasets yet. Type `appliance dataset create NAME`.", (DELETE,)),
    Kind("models", "Models", ("id", "name", "type", "dataset", "age"), _model,
         "No models yet. A workflow's create-model@v1 makes one."),
    Kind("specs", "Specs", ("file", "state", "declares", "problem"), _spec,
         "The watched folder holds no spec. Drop a file into it, and it is in force."),
    Kind("repositories", "Repos", ("name", "phase", "looked", "newest push", "started", "detail"), _repository,
         "No repositories yet. Press a to apply a spec of `kind: repository`; its pushes then start workflows.",
         (DELETE,)),
    Kind("events", "Events", ("time", "level", "subject", "reason", "message"), _event, "Nothing has happened yet."),
    Kind("gpus", "GPUs", ("gpu", "name", "busy", "memory", "power", "temp", "state", "who"), _gpu,
         "No GPU here. `appliance doctor` tells what was looked for."),
)  # fmt: skip
BY_NAME = {kind.name: kind for kind in KINDS}

EVERYWHERE = (
    Action("/", "filter", "filter the list"),
    Action("a", "apply", "apply a spec file"),
    Action("enter", "details", "details of the row"),
    Action("?", "help", "this help"),
    Action("q", "quit", "quit"),
)


def matches(cells: Cells, wanted: str) -> bool:
    """Every word of the filter is in some cell, letter case ignored; `!word` must be in none."""
    text = "\x00".join(cells).lower()
    for word in wanted.lower().split():
        if word.startswith("!") and len(word) > 1:
            if word[1:] in text:
                return False
        elif word not in text:
            return False
    return True


def style(word: str) -> str:
    """Colour of a phase; empty for other text."""
    if word in GOOD:
        return "green"
    if word in BAD or word == "error":
        return "bold red"
    if word in BUSY or word == "warning":
        return "yellow"
    return ""
