"""The files of a home from a backup, and the mark of a home whose restore has not ended.

The state comes last: a home without it is no home yet, and with it everything else is there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance import settings as settings_module
from appliance.backup.manifest import Damaged
from appliance.backup.objects import sync
from appliance.backup.point import HOME_FILES
from appliance.backup.target import write
from appliance.errors import Conflict
from appliance.home import RESTORING
from appliance.settings import Settings
from appliance.state import backups, models, registries, resources, runs, sealed, trash
from appliance.state.backups import SUCCEEDED
from appliance.state.db import Database

JOURNAL = "restoring.jsonl"
STAGING = ".restoring"
CONFIG = "config.toml"
"""Of the machine that was backed up; where there is one already it is put beside it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is being restored here."""

    target: str
    point: str


def find_mark(home: Path) -> Mark | None:
    try:
        row = json.loads((home / RESTORING).read_text(encoding="utf-8"))
        return Mark(str(row["target"]), str(row["point"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return Mark("", "")  # it cannot be read: what it began is begun anew


def put_mark(home: Path, mark: Mark) -> None:
    """From here on no daemon starts on this home, and what an empty one had is gone."""
    (home / JOURNAL).unlink(missing_ok=True)
    write(home / RESTORING, json.dumps(asdict(mark)) + "\n")
    for stale in ("state.db", "state.db-wal", "state.db-shm", "telemetry.duckdb", "telemetry.duckdb.wal"):
        (home / stale).unlink(missing_ok=True)
    sync(home)


def is_placed(home: Path) -> bool:
    """A home with the mark has everything: only taking the mark away is left."""
    return (home / "state.db").exists()


def staging(home: Path) -> Path:
    """An empty directory for the files before they are in their places."""
    folder = home / STAGING
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def check_empty(settings: Settings) -> None:
    """Raises Conflict where the home has anything declared, run or kept."""
    if not settings.state_file.exists():
        return
    db = Database(settings.state_file)
    try:
        found = {
            "resources": resources.every(db.read),
            "deleted notebooks": trash.every(db.read),
            "runs": runs.newest(db.read, limit=1),
            "models": models.every(db.read),
            "secrets": sealed.names(db.read),
            "registries": list(registries.every(db.read)),
        }
    finally:
        db.close()
    if full := [name for name, rows in found.items() if rows]:
        raise not_empty(settings.home, ", ".join(full))


def not_empty(home: Path, what: str) -> Conflict:
    return Conflict(
        f"the home is not empty: it has {what}",
        where=str(home),
        hint="restore into another one: `APPLIANCE_HOME=/new/place appliance restore-backup TARGET`",
    )


def put_config(home: Path, source: Path) -> str:
    """The settings of the machine that was backed up, unless this one has its own. What to tell, or nothing."""
    if not (source / CONFIG).exists():
        return ""
    text = (source / CONFIG).read_text(encoding="utf-8")
    if not (home / CONFIG).exists():
        write(home / CONFIG, text)
        return ""
    if (home / CONFIG).read_text(encoding="utf-8") == text:
        return ""
    write(home / f"{CONFIG}.restored", text)
    return f"{home / CONFIG} stays as it is; the one of the backup is beside it, as {CONFIG}.restored"


def keep_store(settings: Settings) -> None:
    """Write down which store the volumes are in, should only a variable have said it."""
    plain = settings_module.load({}, settings.home)
    if (plain.storage, plain.zpool) == (settings.storage, settings.zpool):
        return
    path = settings.home / CONFIG
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    others = [line for line in lines if not re.match(r"\s*(storage|zpool)\s*=", line)]
    ours = [f"storage = {json.dumps(settings.storage)}", f"zpool = {json.dumps(settings.zpool)}"]
    write(path, "\n".join([*ours, *others]) + "\n")


def place(settings: Settings, source: Path, point_id: str) -> None:
    """Everything in `source`, a directory of this home's file system, to its place; the state last."""
    if not (source / "state.db").exists():
        raise Damaged("the backup has no state in it", where=str(source), hint="restore an older point")
    _say_that_it_succeeded(source / "state.db", point_id)
    settings.specs_dir.mkdir(exist_ok=True)
    if (source / "specs").is_dir():
        for found in (source / "specs").iterdir():
            if not os.path.lexists(settings.specs_dir / found.name):
                found.rename(settings.specs_dir / found.name)
    for name in HOME_FILES:
        if name != CONFIG and (source / name).exists():
            sync(settings.home)
            (source / name).rename(settings.home / name)
    sync(settings.home)


def finish(home: Path) -> None:
    for name in (JOURNAL, RESTORING):
        (home / name).unlink(missing_ok=True)
    shutil.rmtree(home / STAGING, ignore_errors=True)
    sync(home)


def _say_that_it_succeeded(state_file: Path, point_id: str) -> None:
    """In the copy the backup that made it has not ended yet."""
    db = Database(state_file)
    try:
        with db.write() as transaction:
            if row := backups.find(transaction, point_id):
                message = "this home was restored from it"
                backups.finish(transaction, row.id, phase=SUCCEEDED, message=message, size=row.bytes, now=row.created)
    finally:
        db.close()
