"""The differences of two moments that differ in 10 files of 200,000, beside `rsync -n` and `diff -rq` in one run.

    python -m tests.bench.bench_diff [FILES] [--store directory|zfs] [--rounds 3] [--without-diff]

On the plain-directory store: a snapshot with the one before (unchanged files are the same file), and a snapshot with
the live files (nothing is shared). On ZFS, a pool in a file, which needs root; with zfs-fuse every look at a
file is a question to another process. They take turns, so that a slow moment of the machine meets all;
the first look, which fills the caches for all of them, is told by itself.
`rsync` and `diff` get what the daemon's views give: both trees as directories. They compare as they do by default:
`rsync` sizes and times, `diff` every byte (minutes with zfs-fuse, so it may be left out).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.history.diff.tree import Options
from appliance.history.diff.walk import walking
from appliance.storage.base import Store
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.zfs.store import ZfsStore
from tests.support.zfs import call, file_pool

FOLDERS = 400
CHANGED = 10
POOL_BYTES = 4 << 30
VOLUME = "bench/tree"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="?", type=int, default=200_000)
    parser.add_argument("--store", choices=("directory", "zfs"), action="append", help="default: directory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-diff", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.store or ["directory"]:
            if kind == "directory":
                bench(DirectoryStore(Path(folder) / "volumes", "a bench", durable=False), args)
                continue
            with file_pool(Path(folder) / "disk", POOL_BYTES) as pool:
                assert call("zfs", "create", "-o", "canmount=off", f"{pool}/bench").returncode == 0
                bench(ZfsStore(f"{pool}/bench", Path(folder) / "zfs"), args)


def bench(store: Store, args: argparse.Namespace) -> None:
    live = store.create(VOLUME)
    build(live, args.files)
    taken = seconds(lambda: store.snapshot(VOLUME, "older"))
    change(live)
    again = seconds(lambda: store.snapshot(VOLUME, "newer"))
    print(f"{store.info().kind}: {args.files} files, first snapshot {taken:.2f} s, second {again:.2f} s", flush=True)
    with store.view(VOLUME, "older") as older, store.view(VOLUME, "newer") as newer:
        compare("two snapshots", older, newer, args)
        compare("a snapshot and now", older, live, args)
        hinted(store, older, newer)


def compare(title: str, older: Path, newer: Path, args: argparse.Namespace) -> None:
    ways: dict[str, Callable[[], object]] = {
        "appliance": lambda: ours(older, newer),
        "appliance, first change": lambda: ours(older, newer, first=True),
        "rsync -n -a --delete": lambda: run("rsync", "-n", "-a", "-i", "--delete", f"{newer}/", f"{older}/"),
        "diff -rq": lambda: run("diff", "-rq", "--no-dereference", str(older), str(newer)),
    }
    if args.without_diff:
        del ways["diff -rq"]
    print(f"  {title:<20} {'appliance, first look':<24} {seconds(lambda: ours(older, newer)):8.2f} s", flush=True)
    took: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, act in ways.items():
            took[way].append(seconds(act))
    best = statistics.median(took["appliance"])
    for way, times in took.items():
        middle = statistics.median(times)
        print(f"  {title:<20} {way:<24} {middle:8.2f} s   {middle / best:6.1f} x", flush=True)


def hinted(store: Store, older: Path, newer: Path) -> None:
    def act() -> None:
        hints = store.hints(VOLUME, "older", "newer")
        assert hints is not None
        ours(older, newer, hints=hints)

    if store.hints(VOLUME, "older", "newer") is None:
        print("  this store gives no hints")
    else:
        print(f"  {'two snapshots':<20} {'appliance, with hints':<24} {seconds(act):8.2f} s")


def ours(older: Path, newer: Path, *, first: bool = False, hints: Iterator[str] | None = None) -> None:
    async def walk() -> None:
        lines = 0
        async with walking(older, newer, Options(hints=hints is not None), hints) as batches:
            async for batch in batches:
                lines += batch.count(b"\n")
                if first:
                    return
        assert lines == CHANGED + 1, f"{lines - 1} changes are told"

    asyncio.run(walk())


def build(root: Path, files: int) -> None:
    for number in range(FOLDERS):
        (root / f"{number:03}").mkdir()
    for number in range(files):
        (root / f"{number % FOLDERS:03}" / f"{number:06}.txt").write_text(f"sample {number}\n")


def change(root: Path) -> None:
    for number in range(0, CHANGED * 37, 37):
        (root / f"{number:03}" / f"{number:06}.txt").write_text("another one\n")


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True)
    assert done.returncode in (0, 1), done.stderr.decode()


def seconds(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


if __name__ == "__main__":
    main()
