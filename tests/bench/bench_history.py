"""What history costs for a large workspace beside a small one, and beside `cp -a`, `rsync`, `git` and `dvc`.

    python -m tests.bench.bench_history [--small 5M] [--large 5G] [--place DIR] [--rounds 7] [--without dvc,git]

Both workspaces have FILES files of random bytes, so that size is all that differs; each is measured in turns with the
other. Ours run on a real pool in a sparse file (OpenZFS where the kernel has it, else zfs-fuse), the others on the same
tree on the disk under DIR, each after the other and removed afterwards. dvc comes from pip into an environment that is
thrown away. What is not installed is left out and said. Needs root and six times the large size of free disk.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.datasets.datasets import Datasets
from appliance.history.workspaces import Workspaces
from appliance.state.db import Database
from appliance.storage.zfs.store import ZfsStore
from tests.support.zfs import call, file_pool

FILES = 320
UIDS = {"small": "0" * 16, "large": "1" * 16}
Told = Callable[[str, float], None]
"""(step, seconds)"""
UNITS = {"M": 1 << 20, "G": 1 << 30}


@dataclass
class Table:
    """Seconds of each step, by tool and by size."""

    times: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    def add(self, tool: str, step: str, size: str, seconds: float) -> None:
        self.times.setdefault((tool, step), {}).setdefault(size, []).append(seconds)

    def told(self, tool: str, size: str) -> Told:
        return lambda step, seconds: self.add(tool, step, size, seconds)

    def median(self, tool: str, step: str, size: str) -> float | None:
        found = self.times.get((tool, step), {}).get(size)
        return statistics.median(found) if found else None

    def print(self, sizes: dict[str, int]) -> None:
        print(f"\n{'tool':<10}{'step':<34}" + "".join(f"{_words(size):>11}" for size in sizes.values()), end="")
        print(f"{'ratio':>8}{'x ours':>9}")
        for tool, step in self.times:
            small, large = (self.median(tool, step, size) for size in sizes)
            ours = self.median("ours", step.split(" (")[0], "large")
            print(f"{tool:<10}{step:<34}{_seconds(small)}{_seconds(large)}", end="")
            print(f"{large / small if small and large else 0:>8.2f}", end="")
            print(f"{large / ours if ours and large else 0:>9.0f}" if tool != "ours" else "")


def _words(size: int) -> str:
    return f"{size >> 30} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"


def _seconds(value: float | None) -> str:
    return f"{value:>9.3f} s" if value is not None else f"{'-':>11}"


def main() -> None:
    options = parse()
    sizes = {"small": options.small, "large": options.large}
    place = Path(tempfile.mkdtemp(prefix="appliance-bench-", dir=options.place))
    free = shutil.disk_usage(place).free
    if free < 6 * options.large:
        place.rmdir()
        sys.exit(
            f"{options.place} has {_words(free)} free; this needs {_words(6 * options.large)}: give --small, --large"
        )
    table = Table()
    try:
        with file_pool(place / "disk", 3 * options.large + (2 << 30)) as pool:
            asyncio.run(ours(pool, place / "home", sizes, options.rounds, table))
        for tool, measure in OTHERS.items():
            if tool in options.without:
                continue
            for size, most in sizes.items():
                with work_tree(place / "tree", most) as tree:
                    why = measure(tree, place, table.told(tool, size))
                if why:
                    print(f"{tool} is left out: {why}")
                    break
        table.print(sizes)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", type=_bytes, default=_bytes("5M"))
    parser.add_argument("--large", type=_bytes, default=_bytes("5G"))
    parser.add_argument("--place", default=tempfile.gettempdir())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without", type=lambda text: text.split(","), default=[])
    return parser.parse_args()


def _bytes(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


# -- ours


async def ours(pool: str, home: Path, sizes: dict[str, int], rounds: int, table: Table) -> None:
    home.mkdir()
    store, db = ZfsStore(f"{pool}/bench", home / "volumes"), Database(home / "state.db")
    try:
        await moving(Workspaces(db, store, time.time), pool, sizes, rounds, table)
        await committing(Datasets(db, store, time.time), pool, sizes, table)
    finally:
        db.close()
    for step in ("rollback", "fork"):
        small, large = (table.median("ours", step, size) or 0 for size in sizes)
        print(f"{step} of {_words(sizes['large'])} beside {_words(sizes['small'])}: ratio {large / small:.2f}")


async def moving(workspaces: Workspaces, pool: str, sizes: dict[str, int], rounds: int, table: Table) -> None:
    """Snapshot, rollback, undo and fork, the sizes in turns; the first round warms up and is not counted."""
    first = {}
    for size, uid in UIDS.items():
        fill(await workspaces.open(uid), sizes[size])
        first[size] = await workspaces.snapshot(uid, cause="manual")
    settle(pool)
    for number in range(rounds + 1):
        counted = table if number else Table()
        for size, uid in UIDS.items():
            touch_one(await workspaces.open(uid))
            await step(counted, "snapshot", size, workspaces.snapshot(uid, cause="manual"))
            await step(counted, "rollback", size, workspaces.rollback(uid, first[size].id))
            await step(counted, "undo", size, workspaces.undo(uid))
            await step(counted, "fork", size, workspaces.fork(uid, secrets.token_hex(8)))


async def committing(datasets: Datasets, pool: str, sizes: dict[str, int], table: Table) -> None:
    datasets.create("d")
    for size, most in sizes.items():
        version = await datasets.begin("d")
        fill(await datasets.path(version), most)
        settle(pool)
        before = bytes_moved(pool)
        await step(table, "commit", size, datasets.commit(version))
        settle(pool)
        held, read, written = (then - now for then, now in zip(bytes_moved(pool), before, strict=True))
        print(f"dataset commit of {_words(most)}: {read} bytes read, {written} written, the pool holds {held} more")


async def step(table: Table, name: str, size: str, run: Coroutine[Any, Any, object]) -> None:
    before = time.perf_counter()
    await run
    table.add("ours", name, size, time.perf_counter() - before)


def fill(directory: Path, size: int) -> None:
    """FILES files of random bytes in ten folders."""
    for number in range(FILES):
        folder = directory / f"folder{number % 10}"
        folder.mkdir(exist_ok=True)
        with (folder / f"file{number}").open("wb") as file:
            left = size // FILES
            while left:
                piece = random.randbytes(min(left, 1 << 20))
                file.write(piece)
                left -= len(piece)


def touch_one(directory: Path) -> None:
    with (directory / "folder0" / "file0").open("r+b") as file:
        file.write(os.urandom(4096))


def settle(pool: str) -> None:
    """What was written is on the disk and in ZFS's accounts: a snapshot waits for both."""
    os.sync()
    assert call("zfs", "snapshot", f"{pool}@{secrets.token_hex(4)}").returncode == 0


def bytes_moved(pool: str) -> tuple[int, int, int]:
    """Bytes that the pool holds, and that this process and the programs it has run have read and written so far."""
    held = int(call("zfs", "get", "-H", "-p", "-o", "value", "used", pool).stdout)
    own = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return held, int(own["rchar"]), int(own["wchar"])


# -- the others; each returns why it is left out, or nothing


@contextmanager
def work_tree(tree: Path, size: int) -> Iterator[Path]:
    tree.mkdir()
    try:
        fill(tree, size)
        os.sync()
        yield tree
    finally:
        shutil.rmtree(tree)


def timed(told: Told, step: str, *argv: str, cwd: Path) -> None:
    """With what it takes until the disk has it."""
    before = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    os.sync()
    told(step, time.perf_counter() - before)
    assert done.returncode == 0, done.stderr[-2000:]


def cp(tree: Path, place: Path, told: Told) -> str:
    timed(told, "fork (copy)", "cp", "-a", str(tree), str(place / "copy"), cwd=place)
    shutil.rmtree(place / "copy")
    return ""


def rsync(tree: Path, place: Path, told: Told) -> str:
    if not shutil.which("rsync"):
        return "rsync is not installed"
    copy = place / "copy"
    timed(told, "snapshot (first copy)", "rsync", "-a", f"{tree}/", str(copy), cwd=place)
    touch_one(tree)
    link = f"--link-dest={copy}"
    timed(told, "snapshot (--link-dest)", "rsync", "-a", link, f"{tree}/", str(place / "second"), cwd=place)
    touch_one(tree)
    timed(told, "rollback (copy back)", "rsync", "-a", "--delete", f"{copy}/", str(tree), cwd=place)
    shutil.rmtree(copy)
    shutil.rmtree(place / "second")
    return ""


def git(tree: Path, place: Path, told: Told) -> str:
    if not shutil.which("git"):
        return "git is not installed"
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
    subprocess.run(["git", "init", "-q", str(tree)], check=True, capture_output=True)
    commit = f"git add -A && git {' '.join(who)} commit -q -m moment"
    timed(told, "commit (first)", "sh", "-c", commit, cwd=tree)
    touch_one(tree)
    timed(told, "snapshot (one file changed)", "sh", "-c", commit, cwd=tree)
    timed(told, "rollback (one file)", "git", "reset", "-q", "--hard", "HEAD~1", cwd=tree)
    timed(told, "fork (clone)", "git", "clone", "-q", str(tree), str(place / "copy"), cwd=place)
    shutil.rmtree(place / "copy")
    return ""


def dvc(tree: Path, place: Path, told: Told) -> str:
    program = _dvc(place)
    if not program:
        return "pip could not install it"
    home = place / "dvc"
    home.mkdir()
    tree.rename(home / "data")
    try:
        subprocess.run([program, "init", "-q", "--no-scm"], cwd=home, check=True, capture_output=True)
        timed(told, "commit (first)", program, "add", "-q", "data", cwd=home)
        first = (home / "data.dvc").read_bytes()
        touch_one(home / "data")
        timed(told, "snapshot (one file changed)", program, "add", "-q", "data", cwd=home)
        (home / "data.dvc").write_bytes(first)
        timed(told, "rollback (one file)", program, "checkout", "-q", "--force", "data.dvc", cwd=home)
    finally:
        (home / "data").rename(tree)
        shutil.rmtree(home)
    return ""


def _dvc(place: Path) -> str:
    """Its program, in an environment that goes with `place`; empty where it cannot be installed."""
    environment = place / "dvc-environment"
    program = environment / "bin" / "dvc"
    if not program.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", str(environment)], check=True)
        done = subprocess.run([*uv, "pip", "install", "-q", "--python", str(environment / "bin" / "python"), "dvc"])
        if done.returncode:
            return ""
    return str(program)


OTHERS: dict[str, Callable[[Path, Path, Told], str]] = {"cp -a": cp, "rsync": rsync, "git": git, "dvc": dvc}


if __name__ == "__main__":
    main()
