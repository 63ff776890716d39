"""The watch on children that are no good: they end, babble, or cannot be started. It goes on, and says so."""

from __future__ import annotations

import asyncio
import sys

import pytest

from appliance.gpu import watch as module
from appliance.gpu.types import Inventory
from appliance.gpu.watch import ASKING, GpuWatch

pytestmark = pytest.mark.anyio

WITHIN_S = 60.0
GOOD = '{"inventory": {"at": 1.0, "devices": [{"uuid": "GPU-a", "index": 0}], "present": true}, "unreadable": {}}'
CRASH = "import os; os.kill(os.getpid(), 11)"


def saying(*lines: str, then: str = "") -> tuple[str, ...]:
    told = "".join(f"print({line!r}, flush=True)\n" for line in lines)
    return (sys.executable, "-c", f"{told}{then}")


async def first(watch: GpuWatch, number: int = 1) -> list[Inventory]:
    found: list[Inventory] = []
    enough = asyncio.Event()

    def take(one: Inventory) -> None:
        found.append(one)
        if len(found) == number:
            enough.set()

    watch.on_inventory.append(take)
    task = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            await enough.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await watch.close()
    return found


async def test_before_anything_is_known_a_driver_may_be_there() -> None:
    """Whoever asks for a GPU now is to wait, not to run without one."""
    watch = GpuWatch(clock=lambda: 5.0)
    assert watch.latest == Inventory(5.0, message=ASKING, present=True)
    assert not watch.known
    await watch.close()


BAD = {
    "it cannot be started": (("/no/such/program",), "cannot be started"),
    "it babbles": (saying("NVRM: what is this"), "cannot be understood"),
    "it says what is no inventory": (saying('{"inventory": 5}'), "cannot be understood"),
    "it ends": (saying('{"step": "card", "index": 0, "uuid": ""}'), "the probe of the GPUs ended"),
    "it fails": (saying(then="raise SystemExit(3)"), "with exit code 3"),
    "it crashes": (saying(then=CRASH), "by SIGSEGV"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_child_that_is_no_good_is_said(case: str) -> None:
    command, words = BAD[case]
    watch = GpuWatch(command=command)
    found = (await first(watch))[0]
    assert (found.ok, found.present) == (False, True)
    assert words in found.message
    assert not watch.known, "no driver has spoken yet: there may be none"


async def test_it_is_tried_again_and_a_listener_that_fails_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    watch = GpuWatch(command=saying(GOOD, then=CRASH))

    def fail(found: Inventory) -> None:
        raise RuntimeError("a defect of whoever listens")

    watch.on_inventory.append(fail)
    told = await first(watch, 4)
    assert [one.ok for one in told] == [True, False, True, False]
    assert all(len(one.devices) == 1 for one in told)


async def test_a_card_that_crashes_whoever_asks_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    program = (
        "import sys, time, os\n"
        f"print({GOOD!r}, flush=True)\n"
        "if '--skip=GPU-a' in sys.argv: time.sleep(600)\n"
        """print('{"step": "card", "index": 0, "uuid": "GPU-a"}', flush=True)\n"""
        f"{CRASH}\n"
    )
    monkeypatch.setattr(module, "CRASHES_S", 60.0)
    watch = GpuWatch(command=(sys.executable, "-c", program))
    told = await first(watch, 5)
    assert "by SIGSEGV" in told[1].message
    assert told[3].devices[0].lost.startswith("ends whoever asks it (by SIGSEGV)")


async def test_closing_ends_it_at_once() -> None:
    watch = GpuWatch(command=saying(GOOD, then="import time; time.sleep(600)"))
    await first(watch)
    async with asyncio.timeout(WITHIN_S):
        await watch.close()
        await watch.run()
    assert not watch.left


async def test_a_child_that_only_waits_for_a_processor_has_no_card_that_hangs() -> None:
    spin = "import time\nuntil = time.monotonic() + 2\nwhile time.monotonic() < until: pass\n"
    told = saying(
        '{"step": "card", "index": 0, "uuid": "GPU-a"}', then=f"{spin}print({GOOD!r}, flush=True)\ntime.sleep(600)"
    )
    watch = GpuWatch(deadline_s=1.0, command=told)
    assert (await first(watch))[0].ok
