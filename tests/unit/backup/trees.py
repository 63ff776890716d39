"""Archive a directory and make one from the archive, in this process: what the backup's programs do."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from appliance.backup.manifest import Entry, read
from appliance.backup.pack import work
from appliance.backup.target import Target
from appliance.backup.unpack import Unpacker


def pack(target: Target, source: Path, before: str = "", *, frozen: bool = False) -> dict[str, object]:
    """The last answer of the program."""
    asked = {"source": str(source), "target": str(target.path), "before": before, "frozen": frozen}
    return list(work(asked))[-1]


def manifest(target: Target, source: Path, before: str = "") -> str:
    return str(pack(target, source, before)["manifest"])


def entries(target: Target, digest: str) -> list[Entry]:
    with target.objects.open_manifest(digest) as file:
        return list(read(file, digest))


def unpack(target: Target, directory: Path, new: str, old: str = "") -> int:
    """Bytes that were written."""
    written = 0

    def tell(count: int) -> None:
        nonlocal written
        written += count

    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with ExitStack() as files:
            before = read(files.enter_context(target.objects.open_manifest(old)), old) if old else iter(())
            after = read(files.enter_context(target.objects.open_manifest(new)), new)
            Unpacker(root, target.objects.read, tell).apply(before, after)
    finally:
        os.close(root)
    return written
