"""Registered models: a name and a type for one version of a dataset. A name may be registered again and again."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.state.db import Connection, Row


@dataclass(frozen=True, slots=True)
class Model:
    """`dataset` is a resource uid; `run` and `job` made it, empty where a person registered it."""

    id: str
    name: str
    type: str
    dataset: str
    version: str
    run: str
    job: str
    created: float


def add(db: Connection, model: Model) -> None:
    db.execute(
        "INSERT INTO models (id, name, type, dataset, version, run, job, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (model.id, model.name, model.type, model.dataset, model.version, model.run, model.job, model.created),
    )


def find(db: Connection, model_id: str) -> Model | None:
    row = db.execute("SELECT * FROM models WHERE id = ?", (model_id,)).fetchone()
    return _model(row) if row else None


def newest(db: Connection, name: str) -> Model | None:
    """The model that was registered last under this name."""
    row = db.execute("SELECT * FROM models WHERE name = ? ORDER BY created DESC, rowid DESC", (name,)).fetchone()
    return _model(row) if row else None


def same(db: Connection, model: Model) -> Model | None:
    """One that was registered by the same job from the same version under the same name."""
    row = db.execute(
        "SELECT * FROM models WHERE name = ? AND type = ? AND dataset = ? AND version = ? AND run = ? AND job = ?"
        " ORDER BY rowid DESC",
        (model.name, model.type, model.dataset, model.version, model.run, model.job),
    ).fetchone()
    return _model(row) if row else None


def named(db: Connection, name: str) -> list[Model]:
    """All that were registered under this name, newest first."""
    rows = db.execute("SELECT * FROM models WHERE name = ? ORDER BY created DESC, rowid DESC", (name,))
    return [_model(row) for row in rows]


def every(db: Connection) -> list[Model]:
    """Newest first."""
    return [_model(row) for row in db.execute("SELECT * FROM models ORDER BY created DESC, rowid DESC")]


def of_dataset(db: Connection, dataset: str) -> list[Model]:
    """Models whose content is a version of this dataset, newest first."""
    rows = db.execute("SELECT * FROM models WHERE dataset = ? ORDER BY created DESC, rowid DESC", (dataset,))
    return [_model(row) for row in rows]


def of_run(db: Connection, run: str) -> list[Model]:
    """What the jobs of a run have registered, oldest first."""
    rows = db.execute("SELECT * FROM models WHERE run = ? AND run != '' ORDER BY created, rowid", (run,))
    return [_model(row) for row in rows]


def remove(db: Connection, model_id: str) -> bool:
    return db.execute("DELETE FROM models WHERE id = ?", (model_id,)).rowcount == 1


def _model(row: Row) -> Model:
    return Model(**{key: row[key] for key in row.keys()})  # noqa: SIM118 -- a Row iterates over values
