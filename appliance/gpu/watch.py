"""The cards of this machine, always looked at: a child process asks NVML, this follows it and never blocks.

Whatever hangs, hangs in the child: it is killed after a deadline, and the next one leaves the card out that did not
answer. One that cannot be killed is left behind; few of them are.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from appliance.gpu import health, lines, xids
from appliance.gpu.child import Child, Kill, command, kill
from appliance.gpu.sight import Sight
from appliance.gpu.types import Device, Fault, Inventory

log = logging.getLogger(__name__)

START_S = 60.0
"""For the driver to answer for the first time: without persistence mode it wakes card after card."""
RETRY_S = 2.0
MOST_RETRY_S = 30.0
ABSENT_S = 300.0
"""Between two looks for a driver on a machine that has none."""
FORGIVE_S = 300.0
"""A card that did not answer is asked again after this."""
STARVED = 3
"""Further deadlines for a child that wants to run and is not let, on a machine under load."""
CRASHES_S = 600.0
"""A card that ends two processes within this is left out."""
MOST_LEFT = 3
"""Processes that could not be killed; with so many no other is started before one of them is gone."""
MOST_XIDS = 32
"""Of a card, that are remembered."""
ASKING = "the GPUs are being looked for"

T = TypeVar("T")


class GpuWatch:
    """`run` goes on for ever; `close` ends it. The callbacks are called on the loop's thread."""

    def __init__(
        self,
        *,
        sample_s: float = 1.0,
        deadline_s: float = 5.0,
        start_s: float = START_S,
        clock: Callable[[], float] = time.time,
        command: Sequence[str] = command(),
        end: Kill = kill,
    ) -> None:
        self.latest = Inventory(clock(), message=ASKING, present=True)
        """Never blocks, never older than a look and a deadline. Until `known`, nothing can be said of GPUs at all."""
        self.known = False
        """Whether there was an answer, be it that there is no driver."""
        self.on_inventory: list[Callable[[Inventory], None]] = []
        self.on_fault: list[Callable[[Fault], None]] = []
        self.left: list[subprocess.Popen[bytes]] = []
        """Processes that could not be killed."""
        self._sample_s = sample_s
        self._deadline_s = deadline_s
        self._start_s = start_s
        self._clock = clock
        self._command = tuple(command)
        self._end = end
        self._sight = Sight()
        self._told: dict[str, Device] = {}
        """Whose health has been told, as of then."""
        self._xids: dict[str, list[xids.Xid]] = defaultdict(list)
        self._crashes: dict[int, float] = {}
        """By place: when it last ended whoever asked it."""
        self._again = asyncio.Event()
        self._child: Child | None = None
        self._failures = 0
        self._closed = False

    async def run(self) -> None:
        """Child after child."""
        while not self._closed:
            self._again.clear()
            pause = await self._follow() if self._may_start() else RETRY_S
            try:
                async with asyncio.timeout(pause):
                    await self._again.wait()
            except TimeoutError:
                pass

    def retry(self) -> None:
        """Ask all cards anew, now: somebody has reset one, or put the driver right."""
        self._sight.forgive()
        self._again.set()

    async def close(self) -> None:
        """Bounded, whatever the child does."""
        self._closed = True
        self._again.set()
        await self._leave()

    def _may_start(self) -> bool:
        self.left = [one for one in self.left if one.poll() is None]
        if len(self.left) < MOST_LEFT:
            return True
        pids = ", ".join(str(one.pid) for one in self.left)
        self._fail(f"processes hang in the driver and cannot be killed ({pids}): restart the machine")
        return False

    async def _follow(self) -> float:
        """One child, to its end; how long to wait before the next."""
        skips = [f"--skip={uuid}" for uuid in self._sight.silent]
        skips += [f"--skip-index={index}" for index in self._sight.silent_index]
        try:
            child = self._child = await Child.start((*self._command, f"--sample={self._sample_s}", *skips), self._end)
        except OSError as error:
            return self._fail(f"the process that asks the GPUs cannot be started: {error}")
        try:
            return await self._listen(child, forgive=asyncio.get_running_loop().time() + FORGIVE_S)
        finally:
            await self._leave()

    async def _listen(self, child: Child, *, forgive: float) -> float:
        step: lines.Said = {"step": "start"}
        while not self._again.is_set():
            try:
                line = await self._line(child, self._patience(step))
                said = lines.read(line) if line else None
                if said is None:
                    return await self._ended(child, step)
                if "step" in said:
                    step = said
                elif "down" in said:
                    return self._down(said)
                else:
                    self._take(said)
            except TimeoutError:
                return self._hung(step)
            except (ValueError, KeyError, TypeError) as error:
                return self._fail(f"the process that asks the GPUs says what cannot be understood: {error}")
            loop_time = asyncio.get_running_loop().time()
            if step["step"] == "rest" and loop_time >= forgive and not self.left and self._skips():
                self._sight.forgive()
                return 0.0
        return 0.0

    @staticmethod
    async def _line(child: Child, patience: float) -> bytes:
        """Raises TimeoutError; later where the child only waits for a processor."""
        for left in range(STARVED, -1, -1):
            try:
                async with asyncio.timeout(patience):
                    return await child.line()
            except TimeoutError:
                if not left or not child.runnable():
                    raise
        return b""

    def _skips(self) -> bool:
        return bool(self._sight.silent or self._sight.silent_index)

    def _patience(self, step: lines.Said) -> float:
        if step["step"] == "rest":
            return self._sample_s + self._deadline_s
        return self._deadline_s if step["step"] == "card" else max(self._start_s, self._deadline_s)

    def _take(self, said: lines.Said) -> None:
        now = self._clock()
        if "inventory" in said:
            self._failures = 0
            unreadable = {int(index): str(words) for index, words in said.get("unreadable", {}).items()}
            self._publish(self._sight.seen(lines.inventory(said["inventory"]), unreadable, now))
        elif "xid" in said:
            uuid, number = str(said["uuid"]), int(said["xid"])
            kind, words = xids.verdict(number, now, self._xids[uuid])
            self._xids[uuid] = [*self._xids[uuid], xids.Xid(now, number)][-MOST_XIDS:]
            self._report(Fault(now, uuid, kind, words, number, said.get("gi")))
        elif said.get("event") == lines.UNAVAILABLE:
            words = f"the driver calls it unavailable; {xids.RESET}"
            self._report(Fault(now, str(said["uuid"]), "card", words, gi=said.get("gi")))

    def _down(self, said: lines.Said) -> float:
        words, now = str(said["down"]), self._clock()
        if not said.get("present"):
            self._publish(self._sight.absent(words, now))
            return ABSENT_S if not self._sight.known else MOST_RETRY_S
        return self._fail(words, driver=True)

    def _hung(self, step: lines.Said) -> float:
        seconds = f"{self._patience(step):.0f} s"
        if step["step"] != "card":
            return self._fail(f"the NVIDIA driver did not answer within {seconds}; see `nvidia-smi`")
        index, uuid = int(step["index"]), str(step["uuid"])
        log.error("GPU %d (%s) did not answer within %s and is left out", index, uuid or "unknown", seconds)
        words = f"did not answer within {seconds}: it has died or hangs; {xids.REBOOT}"
        found = self._sight.hung(index, uuid, words, self._clock())
        if self._sight.known:  # else nothing is known of the others yet, and they are looked at next
            self._publish(found)
        return 0.0

    async def _ended(self, child: Child, step: lines.Said) -> float:
        """By itself: an upgrade of the driver, or a crash; of a card that crashes it twice, the next one keeps away."""
        await child.end()
        code = child.process.returncode
        if self._closed:
            return 0.0
        if not code:
            return 0.0 if self._failures == 0 and step["step"] == "rest" else self._fail("the probe of the GPUs ended")
        why = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
        if step["step"] == "card" and self._crashed_again(int(step["index"])):
            words = f"ends whoever asks it ({why}); {xids.REBOOT}"
            self._publish(self._sight.hung(int(step["index"]), str(step["uuid"]), words, self._clock()))
            return 0.0
        return self._fail(f"the process that asks the GPUs was ended {why}")

    def _crashed_again(self, index: int) -> bool:
        now = asyncio.get_running_loop().time()
        before, self._crashes[index] = self._crashes.get(index, float("-inf")), now
        return now - before <= CRASHES_S

    def _fail(self, words: str, *, driver: bool = False) -> float:
        """Told; the pause before the next attempt."""
        self._publish(self._sight.failed(words, self._clock(), driver=driver))
        self._failures += 1
        return float(min(RETRY_S * 2 ** (self._failures - 1), MOST_RETRY_S))

    async def _leave(self) -> None:
        if child := self._child:
            gone = await child.end()
            self._child = None  # not before: who is cancelled here leaves it to `close`
            if not gone:
                log.error("process %d hangs in the driver and cannot be killed: it is left behind", child.process.pid)
                self.left.append(child.process)

    def _publish(self, found: Inventory) -> None:
        if self.left:
            pids = ", ".join(str(one.pid) for one in self.left)
            words = f"processes that hang in the driver were left behind: {pids}"
            found = replace(found, message=f"{found.message}; {words}", ok=False)
        news, self._told = health.faults(self._told, found), health.remember(self._told, found)
        self.known = self.known or found.ok or found.present
        if not self.known:  # trouble before any driver has spoken: there may be one
            found = replace(found, present=True)
        self.latest = found
        _call(self.on_inventory, found)
        for fault in news:
            self._report(fault)

    def _report(self, fault: Fault) -> None:
        _call(self.on_fault, fault)


def _call(callbacks: Sequence[Callable[[T], None]], value: T) -> None:
    for callback in callbacks:
        try:
            callback(value)
        except Exception:
            log.exception("%s did not take what was told of the GPUs", callback)
