"""Sending files into a dataset version and fetching them out of one, in packs that are checked on their way.

Either goes on where it was when it is asked for again: the daemon knows what of a manifest is there, and what is here
is compared by size and time. What is half done lies under a name of its own, so a file that is there is whole.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import paths
from appliance.cli import render
from appliance.cli.bar import Bar
from appliance.client import Client
from appliance.errors import Conflict, NoSpace, NotFound, StorageError, Unavailable, UsageError
from appliance.packs import build, extract
from appliance.packs.digest import TreeDigest
from appliance.packs.entry import Entry, from_json, same
from appliance.packs.tree import Tree, walk

if TYPE_CHECKING:
    from appliance import wire

MANIFEST_PART = 2 << 20
"""Bytes of the manifest that are sent in one request."""
ASKED = 1 << 20
"""Bytes of names that are asked for in one request."""
MOST_ASKED = 5000
TRIES = 3
"""Of a pack that is damaged on its way."""
SHOWN = 3


def put(
    client: Client,
    dataset: str,
    source: Path,
    *,
    message: str = "",
    tags: Iterable[str] = (),
    base: str = "",
    mirror: bool = False,
    restart: bool = False,
) -> wire.Version:
    """A file, or what is in a directory, as a version. A symlink that is named itself is followed, no other one is."""
    real = _real(source)
    with _in_words(source):
        tree, begin = Tree.below(
            real if real.is_dir() else real.parent, b"" if real.is_dir() else os.fsencode(real.name)
        )
    with contextlib.closing(tree), _in_words(source), _again("dataset put"):
        entries = _entries(tree, begin)
        opened = client.open_version(
            dataset,
            message=message or f"put {real.name}",
            source=f"{socket.gethostname()}:{paths.encode(str(real))}",
            base=base,
            mirror=mirror,
            restart=restart,
        )
        missing = _tell_manifest(client, dataset, opened["version"], entries)
        wanted = [
            (entries[line], missing["offsets"].get(str(line), 0))
            for first, end in missing["ranges"]
            for line in range(first, end)
        ]
        total = sum(entry.size for entry in entries)
        done = total - sum(entry.size - offset for entry, offset in wanted)
        if opened["resumed"]:
            render.say(f"version {opened['ref']} was begun before; {render.size(done)} of it are there already")
        with Bar("sending", total) as bar:
            bar.to(done)
            for pack in _ahead(build.packs(tree, wanted)):
                done += _send(client, dataset, opened["version"], pack)
                bar.to(done)
            bar.to(total, "checking what has arrived")
            return client.commit_version(dataset, opened["version"], tags=list(tags))


def get(client: Client, dataset: str, version: str, target: Path, *, path: str = "") -> wire.Version:
    """A version, or what is at or below `path` in it, into the directory `target`, which is made if it is missing.

    What is there already is kept where size and time are the same, and replaced where they are not. Where the version
    has a digest, and all of it is fetched, what is there at the end has been compared with that.
    """
    known = client.version(dataset, version or "latest")
    inside = paths.encode(path.strip("/"))
    with _in_words(target):
        target.mkdir(parents=True, exist_ok=True)
        tree = Tree(target.resolve())
    with contextlib.closing(tree), _in_words(target), _again("dataset get"):
        lines = list(client.manifest(dataset, known["version"], inside))
        entries = [from_json(line) for line in lines if not isinstance(line, str)]
        _tell_skipped("fetched", [line for line in lines if isinstance(line, str)])
        digests = _fetch(client, dataset, known["version"], inside, tree, entries)
        if known["digest"] and not inside:
            _check(tree, entries, digests, known)
    return known


def _fetch(
    client: Client, dataset: str, version: str, inside: str, tree: Tree, entries: list[Entry]
) -> dict[bytes, str]:
    """The sha256 of every file that was fetched in one piece."""
    scope = version.encode()
    wanted = [
        (entry, extract.offset_of(tree, entry, scope)) for entry in entries if not same(entry, tree.entry(entry.path))
    ]
    total = sum(entry.size for entry in entries)
    done = total - sum(entry.size - offset for entry, offset in wanted)
    digests: dict[bytes, str] = {}
    with Bar("fetching", total) as bar:
        bar.to(done)
        for batch in _batches(wanted):
            left = {entry.path: offset for entry, offset in batch}
            while left:
                asked = [(paths.encode(path), offset) for path, offset in left.items()]
                taken = extract.members(client.get_pack(dataset, version, inside, asked))
                if not taken or any(member.entry.path not in left for member in taken):
                    raise Unavailable("the daemon sends something else than was asked for", hint="repeat the command")
                for member, stored in zip(taken, extract.store(tree, taken, replace=False, scope=scope), strict=True):
                    if stored.complete:
                        left.pop(member.entry.path)
                        digests[member.entry.path] = stored.sha256
                    else:
                        left[member.entry.path] = member.offset + stored.bytes
                    done += member.offset + stored.bytes - member.covered
                    bar.to(done)
    return digests


def _check(tree: Tree, entries: list[Entry], digests: dict[bytes, str], known: wire.Version) -> None:
    """Files that were here before, and those that came in pieces, are read for it."""
    digest, done = TreeDigest(), 0
    with Bar("checking", sum(entry.size for entry in entries)) as bar:
        for entry in entries:
            if entry.kind == "file":
                digest.add(entry, digests.get(entry.path) or build.file_sha256(tree, tree.entry(entry.path) or entry))
            else:
                digest.add(entry)
            done += entry.size
            bar.to(done, paths.encode(entry.path))
    if digest.hexdigest() != known["digest"]:
        raise Conflict(
            f"what is here now is not version {known['ref']}",
            where=str(tree.root),
            hint="a file that was here before has the same size and time and another content: fetch into an empty one",
        )


def _batches(wanted: list[tuple[Entry, int]]) -> Iterator[list[tuple[Entry, int]]]:
    """As many as may fill a pack; a larger file takes several packs."""
    batch: list[tuple[Entry, int]] = []
    size = names = 0
    for entry, offset in wanted:
        batch.append((entry, offset))
        size, names = size + entry.size - offset, names + len(entry.path) + 32
        if size >= build.PACK or names >= ASKED or len(batch) >= MOST_ASKED:
            yield batch
            batch, size, names = [], 0, 0
    if batch:
        yield batch


def _entries(tree: Tree, begin: bytes) -> list[Entry]:
    entries: list[Entry] = []
    skipped: list[bytes] = []
    for found in walk(tree, begin):
        if isinstance(found, Entry):
            entries.append(found)
        else:
            skipped.append(found)
    _tell_skipped("sent", [paths.encode(path) for path in skipped])
    return entries


def _tell_skipped(done: str, skipped: list[str]) -> None:
    if not skipped:
        return
    named = ", ".join(render.clean(path) for path in skipped[:SHOWN])
    more = f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
    render.say(f"not {done}, for they are sockets, fifos, devices or have reserved names: {named}{more}")


def _tell_manifest(client: Client, dataset: str, version: str, entries: list[Entry]) -> wire.Missing:
    lines: list[bytes] = []
    size, first = 0, True
    for entry in entries:
        lines.append(json.dumps(entry.to_json(), ensure_ascii=False).encode() + b"\n")
        size += len(lines[-1])
        if size >= MANIFEST_PART:
            client.missing(dataset, version, b"".join(lines), first=first, last=False)
            lines, size, first = [], 0, False
    return client.missing(dataset, version, b"".join(lines), first=first, last=True)


def _send(client: Client, dataset: str, version: str, pack: bytes) -> int:
    """Bytes of content that were in it."""
    for attempt in range(1, TRIES + 1):
        try:
            return client.put_pack(dataset, version, pack)["bytes"]
        except Conflict as error:
            if attempt == TRIES or "damaged" not in error.message:
                raise
    raise AssertionError("unreachable: the last try raises")


def _ahead(packs: Iterator[bytes]) -> Iterator[bytes]:
    """The next pack is made while the one before it is sent."""
    with ThreadPoolExecutor(1) as other:
        nearest = other.submit(next, packs, b"")
        while pack := nearest.result():
            nearest = other.submit(next, packs, b"")
            yield pack


def _real(source: Path) -> Path:
    try:
        real = source.resolve(strict=True)
    except OSError as error:
        raise NotFound(
            f"cannot be read: {error.strerror}", where=str(source), hint="give a file or directory"
        ) from None
    if not (real.is_dir() or real.is_file()):
        raise UsageError("neither a file nor a directory", where=str(source))
    return real


@contextlib.contextmanager
def _in_words(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                "the disk is full", where=str(place), hint="free some space, then repeat the command"
            ) from None
        where = paths.encode(error.filename) if isinstance(error.filename, str | bytes) else str(place)
        raise StorageError(error.strerror or str(error), where=where, hint="look at its permissions") from None


@contextlib.contextmanager
def _again(command: str) -> Iterator[None]:
    """Say what an interruption leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        render.say(f"interrupted; the same `appliance {command}` goes on where it was")
        raise
    except Unavailable as error:
        raise type(error)(
            error.message, where=error.where, hint=f"{error.hint}; the same `appliance {command}` goes on where it was"
        ) from error
