"""Files of notebooks that are executed with nobody watching: what was asked for, how far each is, how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from appliance.state.db import Connection, Row

Phase = Literal["Preparing", "Starting", "Running", "Stopping", "Succeeded", "Failed", "Canceled"]
FINAL = frozenset({"Succeeded", "Failed", "Canceled"})


@dataclass(frozen=True, slots=True)
class Execution:
    """Times in unix seconds."""

    id: str
    notebook: str
    """Uid; the notebook may be in the trash by now."""
    number: int
    """Counts those of the notebook from 1."""
    name: str
    """The notebook's, when it was asked for: its lines are stored under that."""
    file: str
    """Below the workspace, as `output`."""
    output: str
    parameters: Mapping[str, Any]
    kernel: str
    author: str
    generation: int
    spec: Mapping[str, Any]
    """The notebook's, of that generation."""
    phase: Phase
    created: float
    message: str = ""
    canceled: str = ""
    """Why it is to end, in words; empty: it is not."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """What it sees, so that it cannot be removed meanwhile: name -> `NAME:VERSION`, and name -> model id."""
    models: Mapping[str, str] = field(default_factory=dict)
    started: float | None = None
    finished: float | None = None
    exit_code: int | None = None
    cleared: bool = False
    """Nothing of it is left but what it wrote."""

    @property
    def part(self) -> str:
        """Of the notebook, as its lines and its container name it."""
        return f"run-{self.number}"


def add(db: Connection, one: Execution, *, keep: int) -> None:
    """Of the notebook's older ones that are over only the newest `keep` stay."""
    db.execute(
        "INSERT INTO executions (id, notebook, number, name, file, output, parameters, kernel, author, generation,"
        " spec, phase, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(one.id, one.notebook, one.number, one.name, one.file, one.output, json.dumps(dict(one.parameters))),
            *(one.kernel, one.author, one.generation, json.dumps(dict(one.spec)), one.phase, one.created),
        ),
    )
    over = [row.id for row in of_notebook(db, one.notebook) if row.cleared]
    db.executemany("DELETE FROM executions WHERE id = ?", [(old,) for old in over[keep:]])


def next_number(db: Connection, notebook: str) -> int:
    (last,) = db.execute("SELECT max(number) FROM executions WHERE notebook = ?", (notebook,)).fetchone()
    return int(last or 0) + 1


def find(db: Connection, key: str) -> Execution | None:
    row = db.execute("SELECT * FROM executions WHERE id = ?", (key,)).fetchone()
    return _execution(row) if row else None


def of_notebook(db: Connection, notebook: str) -> list[Execution]:
    """Newest first."""
    rows = db.execute("SELECT * FROM executions WHERE notebook = ? ORDER BY number DESC", (notebook,))
    return [_execution(row) for row in rows]


def open_of(db: Connection, notebook: str) -> list[Execution]:
    """Those of the notebook that there is something to do about, newest first."""
    rows = db.execute("SELECT * FROM executions WHERE notebook = ? AND cleared = 0 ORDER BY number DESC", (notebook,))
    return [_execution(row) for row in rows]


def unfinished(db: Connection) -> list[Execution]:
    """Oldest first."""
    rows = db.execute("SELECT * FROM executions WHERE finished IS NULL ORDER BY created, rowid")
    return [_execution(row) for row in rows]


def uncleared(db: Connection) -> list[str]:
    """Ids of those that there is something to do about."""
    return [row["id"] for row in db.execute("SELECT id FROM executions WHERE cleared = 0 ORDER BY created, rowid")]


def set_cleared(db: Connection, key: str) -> None:
    db.execute("UPDATE executions SET cleared = 1 WHERE id = ?", (key,))


def set_phase(db: Connection, key: str, phase: Phase, message: str = "") -> None:
    """Of one that goes on."""
    db.execute("UPDATE executions SET phase = ?, message = ? WHERE id = ? AND finished IS NULL", (phase, message, key))


def begin(db: Connection, key: str, *, datasets: Mapping[str, str], models: Mapping[str, str]) -> bool:
    """It is about to have a container. False: it was canceled, or is over."""
    done = db.execute(
        "UPDATE executions SET phase = 'Starting', message = '', datasets = ?, models = ?"
        " WHERE id = ? AND finished IS NULL AND canceled = ''",
        (json.dumps(dict(datasets)), json.dumps(dict(models)), key),
    )
    return done.rowcount == 1


def set_started(db: Connection, key: str, at: float) -> None:
    db.execute("UPDATE executions SET started = coalesce(started, ?) WHERE id = ?", (at, key))


def cancel(db: Connection, key: str, why: str) -> None:
    """The first reason stays; of one that is over nothing changes."""
    db.execute("UPDATE executions SET canceled = ? WHERE id = ? AND finished IS NULL AND canceled = ''", (why, key))


def finish(db: Connection, key: str, phase: Phase, message: str, *, exit_code: int | None, now: float) -> bool:
    """False: it was over already."""
    done = db.execute(
        "UPDATE executions SET phase = ?, message = ?, exit_code = ?, finished = ? WHERE id = ? AND finished IS NULL",
        (phase, message, exit_code, now, key),
    )
    return done.rowcount == 1


def forget(db: Connection, notebook: str) -> None:
    db.execute("DELETE FROM executions WHERE notebook = ?", (notebook,))


def _execution(row: Row) -> Execution:
    document = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- iterating a row gives values
    for key in ("parameters", "spec", "datasets", "models"):
        document[key] = json.loads(document[key])
    document["cleared"] = bool(document["cleared"])
    return Execution(**document)
