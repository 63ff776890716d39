"""How a deployment looks: the lines above its tables, their cells, and each row in full. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance import foreign
from appliance.client import words
from tui.kinds import Cells, Document, age, first_line

REPLICAS = ("replica", "gen", "state", "in flight", "restarts", "detail")
REVISIONS = ("gen", "phase", "cause", "age", "image", "models", "detail")
BARS = "▁▂▃▄▅▆▇█"
IMAGE = 20
"""Characters of an image's name that a cell shows; its end tells most."""
SHORT_ID = 12


def head(item: Document, now: float) -> str:
    status, told = item["status"], item["problem"] or words.message(item, now)
    lines = [
        f"deployment {item['name']}   {item['phase']}   {item['url']}",
        told,
        words.rollout(status, now, said=told),
        words.asleep(status, now) or words.scale(status, now),
        words.held(status),
        *status.get("missing", ()),
    ]
    return "\n".join(first_line(line) for line in lines if line)


def replica(row: Document, now: float) -> Cells:
    under_way = "-" if row.get("in_flight") is None else str(row["in_flight"])
    told = first_line(words.replica(row, now))
    return (row["id"], str(row["generation"]), row["state"], under_way, str(row.get("restarts", 0)), told)


def revision(row: Document, now: float) -> Cells:
    image = first_line(row["image"])
    image = image if len(image) <= IMAGE else f"…{image[1 - IMAGE :]}"
    models = first_line(", ".join(row["models"])) or "-"
    told = first_line(words.revision(row))
    return (
        *(str(row["generation"]), row["phase"], first_line(words.cause(row))),
        *(age(row["created"], now), image, models, told),
    )


def replica_page(row: Document, now: float) -> str:
    """All that is known of a replica."""
    under_way = "" if row.get("in_flight") is None else f", {row['in_flight']} in flight"
    began = f"started {age(row['started'], now)} ago" if row.get("started") else "not started"
    lines = [
        f"replica {row['id']} of generation {row['generation']}: {row['state']}{under_way}",
        f"{began}, {row.get('restarts', 0)} restarts, container {row['container'][:SHORT_ID]}",
        "",
        *words.replica(row, now).splitlines(),
    ]
    return _page(lines)


def revision_page(row: Document, now: float) -> str:
    """All that is known of a revision, with the last words of one that failed."""
    image_id = f" ({row['image_id']})" if row["image_id"] else ""
    never = "" if row["ready"] else ", never ready as a whole"
    lines = [
        f"generation {row['generation']}: {row['phase']}, {words.cause(row)} by {row['source']}",
        f"declared {age(row['created'], now)} ago{never}",
        f"image {row['image']}{image_id}",
        *(f"model {model}" for model in row["models"]),
        *(["", *row["message"].splitlines()] if row["message"] else []),
        *(["", "its last words:", *row["words"].splitlines()] if row["words"] else []),
    ]
    return _page(lines)


def way_back(name: str, revisions: Sequence[Document], to: Document, now: float) -> str:
    """The question before a rollback: from which generation to which, and what speaks against it."""
    serving = next((row for row in revisions if row["serving"]), None)
    newest = revisions[0]
    stands = "" if newest is serving else f"generation {newest['generation']} is {newest['phase']}, and "
    stands += f"generation {serving['generation']} serves" if serving else "none serves"
    doubts = words.doubts(to)
    lines = [
        f"Roll {name} back to generation {to['generation']}, declared {age(to['created'], now)} ago, {to['image']}?",
        f"Now {stands}.",
        *([f"Mind: {doubts}."] if doubts else []),
        "A new generation brings it back, so this can be taken back too. Type yes:",
    ]
    return "\n".join(first_line(line) for line in lines)


def traffic(found: Document, width: int) -> str:
    """In words, above a line of bars: the requests of each step, as many steps as there is room for."""
    counts = [int(step["requests"]) for step in found["steps"]]
    return f"requests: {words.traffic(found)}\n{bars(counts[-max(1, width) :])}"


def bars(counts: Sequence[int]) -> str:
    """The highest fills its line; what is not nothing is seen."""
    most = max(counts, default=0)
    return "".join(" " if not count else BARS[(count * len(BARS) - 1) // most] for count in counts)


def compared(revisions: Sequence[Document], under: Document | None) -> tuple[int, int] | None:
    """Generations, newest first in `revisions`; None: there is nothing to compare with."""
    if under is None or len(revisions) < 2:
        return None
    newest, before = int(revisions[0]["generation"]), int(revisions[1]["generation"])
    older = int(under["generation"])
    return (before, newest) if older == newest else (older, newest)


def difference(found: Document) -> str:
    lines = [first_line(line) for line in (*found["made_of"], *found["spec"])] or ["the same spec, image and models"]
    return "\n".join([f"generation {found['older']} -> {found['newer']}", "", *lines])


def _page(lines: Iterable[str]) -> str:
    return "\n".join(foreign.line(line) for line in lines)
