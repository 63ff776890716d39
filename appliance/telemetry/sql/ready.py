"""Ready questions: each a file of SQL whose first line says in words what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).with_name("questions")


@dataclass(frozen=True, slots=True)
class Ready:
    name: str
    question: str
    sql: str


@cache
def ready_queries() -> tuple[Ready, ...]:
    """By name."""
    return tuple(_ready(path) for path in sorted(_FOLDER.glob("*.sql")))


def _ready(path: Path) -> Ready:
    text = path.read_text(encoding="utf-8")
    first, _, sql = text.partition("\n")
    return Ready(path.stem, first.removeprefix("--").strip(), sql.strip())
