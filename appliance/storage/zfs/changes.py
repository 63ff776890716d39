"""What is different since a snapshot: asked of ZFS where it knows, else found by looking.

OpenZFS counts the bytes that were written since a snapshot. zfs-fuse does not, so there each snapshot is given the
instant before it was taken and the bytes that volume and history held then, as a property of its own. Its files have
times in whole seconds; what was changed in the second of the snapshot is told by those bytes alone.
"""

from __future__ import annotations

import logging
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import NotFound, StorageError
from appliance.storage.argv import program_path, run
from appliance.storage.zfs.abilities import Abilities
from appliance.storage.zfs.command import zfs, zpool
from appliance.storage.zfs.handover import snapshots_of
from appliance.storage.zfs.space import number, settle

log = logging.getLogger(__name__)

MOMENT = "appliance:moment"
"""`SECOND,USED`: unix seconds before the snapshot, and bytes that volume and history held after it."""
FIND_S = 60.0
SAME_SECOND = b"="
DIFF_S = 60.0
MOST_DIFF = 64 << 20
"""Bytes of `zfs diff` that are read; a walk is as good for what has changed so much."""


@dataclass(frozen=True, slots=True)
class _Moment:
    second: int
    used: int


def remember(dataset: str, snapshot: str, second: int) -> None:
    """`second`: when the snapshot was not yet taken."""
    zfs("set", f"{MOMENT}={second},{number(dataset, 'used')}", f"{dataset}@{snapshot}")


def written(dataset: str, snapshot: str, able: Abilities) -> int | None:
    """Near the truth on zfs-fuse, where what a destroyed snapshot held is missing in it. Raises NotFound."""
    name = f"{dataset}@{snapshot}"
    if able.written:
        return number(name, "written")
    present = _moment(name)
    names = snapshots_of(dataset)
    if present is None:
        return None
    before = names[: names.index(snapshot)]
    if not before:
        return present.used
    previous = _moment(f"{dataset}@{before[-1]}")
    if previous is None:
        return None
    referenced = number(name, "referenced")
    grown = referenced - number(f"{dataset}@{before[-1]}", "referenced")
    return min(referenced, max(0, grown, present.used - previous.used))


def changed(dataset: str, path: Path, newest: str, able: Abilities) -> bool:
    """The volume is not what its snapshot `newest` is."""
    if able.written:
        if number(dataset, "written"):
            return True
        zpool("sync", dataset.split("/")[0])  # what was written in the last seconds is in no account yet
        return number(dataset, "written") > 0
    moment = _moment(f"{dataset}@{newest}")
    if moment is None:
        return True
    seen = _newer(dataset, path, moment.second)
    if seen != SAME_SECOND:
        return bool(seen)
    settle(dataset)
    return number(dataset, "used") != moment.used


def _newer(dataset: str, path: Path, second: int) -> bytes:
    """SAME_SECOND where some files were changed in that second and none later; empty where none at all was."""
    later = ["-newerct", f"@{second}", "-printf", "later", "-quit"]
    same = ["-newerct", f"@{second - 1}", "-printf", SAME_SECOND.decode()]
    try:
        answer = run(["find", "-P", str(path), "-xdev", *later, "-o", *same], timeout_s=FIND_S)
    except StorageError as error:
        log.info("%s is taken for changed: %s", dataset, error.message)
        return b"unknown"
    if answer.code:
        return b"unknown"  # a directory that goes away meanwhile, or one that cannot be read
    return answer.out if b"later" in answer.out else answer.out[:1]


def hints(root: Path, older: str, newer: str) -> Iterator[str] | None:
    """Paths below `root`, where `newer` is mounted or was, that `zfs diff` names; None where it does not answer."""
    text = _diff(older, newer)
    if text is None:
        return None
    return iter(parse_diff(text, bytes(root) + b"/"))


def parse_diff(text: bytes, top: bytes) -> list[str]:
    """Paths in the output of `zfs diff -FH`, without `top`. Pure.

    Bytes beyond plain ASCII come as a backslash and four octal digits, such as `\\0040`; zfslib knows this one only,
    and gives names with others as they are written. The last field of a file with another link count is that count.
    """
    found: dict[str, None] = {}
    for line in text.split(b"\n"):
        for field in line.split(b"\t")[2:]:
            raw = re.sub(rb"\\([0-7]{4})", lambda match: bytes([int(match[1], 8) & 255]), field)
            if not raw.startswith(top):
                continue
            inner = raw[len(top) :]
            owner = inner.split(b"/<xattrdir>")[0]  # a hidden directory of the file that has extended attributes
            for path in (owner, inner):
                if path:
                    found[path.decode("utf-8", "surrogateescape")] = None
    return list(found)


def _moment(snapshot: str) -> _Moment | None:
    second, _, used = zfs("get", "-H", "-o", "value", MOMENT, snapshot).strip().partition(",")
    if not (second.isdecimal() and used.isdecimal()):
        return None
    return _Moment(int(second), int(used))


def _diff(older: str, newer: str) -> bytes | None:
    argv = ["zfs", "diff", "-FH", older, newer]
    environment = {"LC_ALL": "C", "PATH": program_path()}
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, env=environment, cwd="/"
            )
        except OSError as error:
            log.warning("`zfs diff` cannot be started: %s", error)
            return None
        text, code = _read(process)
        if code == 0:
            return text
        said.seek(0)
        why = said.read(1000).decode("utf-8", "replace").strip() or "it took too long, or said too much"
    log.info("no hints from `%s`, so all files are looked at: %s", " ".join(argv), why)
    return None


def _read(process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
    """Its output and exit code; one that takes too long or says too much is ended."""
    assert process.stdout
    alarm = threading.Timer(DIFF_S, process.kill)
    alarm.start()
    try:
        with process:
            text: bytes = process.stdout.read(MOST_DIFF + 1)
            if len(text) > MOST_DIFF:
                process.kill()
    finally:
        alarm.cancel()
    return text, process.returncode


def origin_with(dataset: str, snapshot: str) -> str | None:
    """`DATASET@SNAPSHOT` of the volume itself, or of what it was cloned from, however often; None: nowhere."""
    seen = set()
    while dataset and dataset not in seen:
        seen.add(dataset)
        try:
            zfs("list", "-H", "-t", "snapshot", "-o", "name", f"{dataset}@{snapshot}")
            return f"{dataset}@{snapshot}"
        except NotFound:
            origin = zfs("get", "-H", "-o", "value", "origin", dataset).strip()
            dataset = origin.partition("@")[0] if "@" in origin else ""
    return None
