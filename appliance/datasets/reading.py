"""Looking into a version and taking files out of it. Its content came from others: no link in it is followed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import BinaryIO

from appliance.datasets import children
from appliance.datasets.datasets import Datasets
from appliance.state.versions import Version
from appliance.storage.threads import in_thread
from appliance.storage.trees import tree


async def listing(datasets: Datasets, version: Version, path: str) -> list[tree.TreeEntry]:
    """What is in the directory `path`, sorted by name. Raises NotFound, UsageError."""
    with datasets.reading(version):
        return await in_thread(tree.list_directory, await datasets.path(version), path)


@asynccontextmanager
async def file(datasets: Datasets, version: Version, path: str) -> AsyncIterator[BinaryIO]:
    """The regular file `path`, open inside the `async with`. Raises NotFound, UsageError."""
    with datasets.reading(version):
        opened = await in_thread(tree.open_file, await datasets.path(version), path)
        with opened:
            yield opened


@asynccontextmanager
async def manifest(datasets: Datasets, version: Version, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """Whole lines of JSON, one for each file, directory and link at or below `path` (as `paths.encode` writes it), and
    at last their number."""
    async with _stream(datasets, version, "list", path) as pieces:
        yield _lines(pieces)


@asynccontextmanager
async def archive(datasets: Datasets, version: Version, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """A plain tar archive of the same."""
    async with _stream(datasets, version, "archive", path) as pieces:
        yield pieces


async def pack(datasets: Datasets, version: Version, path: str, wanted: Sequence[tuple[str, int]]) -> bytes:
    """One pack with as much as fits of the files that are wanted, as the manifest of `path` names them, each from an
    offset on."""
    asked = json.dumps(wanted).encode()

    async def given() -> AsyncIterator[bytes]:
        yield asked

    with datasets.reading(version):
        return await children.answer("pack", await datasets.path(version), path, given=given())


@asynccontextmanager
async def _stream(datasets: Datasets, version: Version, verb: str, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
    with datasets.reading(version):
        async with aclosing(children.stream(verb, await datasets.path(version), path)) as pieces:  # type: ignore[type-var]
            first = await anext(pieces, b"")  # what is wrong with the request shows here, before the answer begins
            yield _chained(first, pieces)


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if newline:
            yield whole + newline


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
