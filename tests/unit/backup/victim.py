"""A program to be killed: it changes a workspace and backs up, over and over, or restores once.

`python -m tests.unit.backup.victim backup HOME TARGET`, or `restore NEW_HOME TARGET`. It says `ready` first.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.unit.backup.rooms import Rooms, opened, restored


async def change(rooms: Rooms, number: int) -> None:
    uid = rooms.declare("nb")
    path = await rooms.workspaces.open(uid)
    (path / f"f{number % 7}").write_bytes(os.urandom(20_000))
    if number % 3 == 0:
        await rooms.workspaces.rollback(uid, rooms.workspaces.timeline(uid)[-1].id)


async def back_up_forever(home: Path, target: str) -> None:
    async with opened(home, {}) as rooms:
        print("ready", flush=True)
        number = 0
        while True:
            number += 1
            await change(rooms, number)
            ended = await rooms.back_up(target)
            if ended.phase != "Succeeded":
                raise AssertionError(ended.message)


if __name__ == "__main__":
    what, home, target = sys.argv[1:]
    if what == "backup":
        asyncio.run(back_up_forever(Path(home), target))
    print("ready", flush=True)
    restored(Path(home), target, {})
