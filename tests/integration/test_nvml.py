"""The real nvidia-ml-py, in the real child process, on a library of ours: cards, instances, and all that goes wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.gpu import child
from appliance.gpu import watch as watch_module
from appliance.gpu.types import Device, Fault, Inventory, Mig, Process
from appliance.gpu.watch import GpuWatch
from tests.support.daemon import STOP_S, RunningDaemon, eventually
from tests.support.nvml.stub import GIB, Stub, build, card, instance, line, mig_uuid, uuid, without_library

pytestmark = pytest.mark.anyio

WITHIN_S = 60.0
SAMPLE_S = 0.05
DEADLINE_S = 2.0
"""For a call, where one hangs. Elsewhere a slow machine has all the time it needs."""


class Eyes:
    """A watch and all that it told."""

    def __init__(self, watch: GpuWatch) -> None:
        self.watch = watch
        self.faults: list[Fault] = []
        self.looks = 0
        self._fresh = asyncio.Event()
        watch.on_inventory.append(self._look)
        watch.on_fault.append(self.faults.append)

    def _look(self, found: Inventory) -> None:
        self.looks += 1
        self._fresh.set()

    async def until(self, wanted: Callable[[Inventory], object], *, known: bool = True) -> Inventory:
        """`known`: not before a driver has spoken."""
        try:
            async with asyncio.timeout(WITHIN_S):
                while not ((self.watch.known or not known) and wanted(self.watch.latest)):
                    self._fresh.clear()
                    await self._fresh.wait()
        except TimeoutError:
            raise AssertionError(f"never came; last: {self.watch.latest}") from None
        return self.watch.latest

    async def fault(self, wanted: Callable[[Fault], bool]) -> Fault:
        async with asyncio.timeout(WITHIN_S):
            while not (found := [one for one in self.faults if wanted(one)]):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found[0]


@asynccontextmanager
async def watching(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    *,
    start_s: float = WITHIN_S,
    deadline_s: float = WITHIN_S,
    end: child.Kill = child.kill,
    more: tuple[str, ...] = (),
) -> AsyncIterator[Eyes]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    watch = GpuWatch(
        sample_s=SAMPLE_S, deadline_s=deadline_s, start_s=start_s, end=end, command=(*child.command(), *more)
    )
    eyes = Eyes(watch)
    task = asyncio.create_task(watch.run())
    try:
        yield eyes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await watch.close()
        for process in watch.left:
            process.kill()
            process.wait(WITHIN_S)


def one(found: Inventory, index: int) -> Device:
    return next(device for device in found.devices if device.index == index)


async def test_a_card_tells_all_about_itself(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    nvml.tell(
        card(0, reasons=0x24, fan=33, ecc_corrected=3),
        line("process", 0, pid=4711, memory=3 * GIB, sm=40),
        line("process", 0, pid=4712, memory=None),
        line("process", 0, pid=99, memory=1024, graphics=1),
        line("process", 0, pid=4713, memory=7, mps=1),
    )
    async with watching(monkeypatch, nvml.variables) as eyes:
        found = await eyes.until(lambda now: now.devices)
    assert (found.driver, found.cuda, found.ok, found.present) == ("580.65.06", "13.0", True, True)
    assert found.message == "NVIDIA A100-SXM4-40GB, driver 580.65.06, CUDA 13.0"
    assert found.devices == (
        Device(
            uuid=uuid(0),
            index=0,
            name="NVIDIA A100-SXM4-40GB",
            minor=0,
            bus="00000000:01:00.0",
            serial="132000",
            memory=40 * GIB,
            used=GIB,
            processes=(
                Process(99, 1024, 0, graphics=True),
                Process(4711, 3 * GIB, 40),
                Process(4712, None, 0),
                Process(4713, 7, 0),
            ),
            utilisation=50,
            memory_utilisation=20,
            power_w=200.5,
            limit_w=400.0,
            energy_j=5000.0,
            temperature=55,
            sm_mhz=1410,
            memory_mhz=1215,
            reasons=0x24,
            ecc_corrected=3,
            ecc_uncorrected=0,
            remap_pending=False,
            remap_failed=False,
            recovery=0,
            pcie="gen4 x16",
            pcie_most="gen4 x16",
            fan=33,
            persistence=True,
        ),
    )
    assert not eyes.faults


async def test_eight_cards_of_which_two_are_split(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    nvml.tell(
        *(card(index) for index in range(6)),
        *(card(index, mig=1, util=None, memory_util=None) for index in (6, 7)),
        instance(6, 0, gi=7),
        instance(6, 2, gi=9, profile="2g.10gb", memory=10 * GIB),  # a hole before it
        instance(7, 3, gi=2, name=None, slices=3, memory=20 * GIB),
        line("process", 6, pid=70, gi=7, memory=GIB),
        line("process", 6, pid=90, gi=9, memory=None),
    )
    async with watching(monkeypatch, nvml.variables) as eyes:
        found = await eyes.until(lambda now: now.devices)
    assert [device.index for device in found.devices] == list(range(8))
    assert found.message.startswith("8 x NVIDIA A100-SXM4-40GB, ")
    split = one(found, 6)
    assert (split.mig, split.utilisation, split.power_w) == (True, None, 200.5)
    assert split.migs == (
        Mig(mig_uuid(6, 0), "1g.5gb", 7, 0, 5 * GIB, GIB // 4, (Process(70, GIB),)),
        Mig(mig_uuid(6, 2), "2g.10gb", 9, 0, 10 * GIB, GIB // 4, (Process(90, None),)),
    )
    assert split.processes == (Process(70, GIB), Process(90, None)), "whose use of the card nobody tells"
    assert [mig.profile for mig in one(found, 7).migs] == ["3g.20gb"]
    assert not one(found, 0).mig


FIELDS = {
    "memory": ("memory", "used"),
    "util": ("utilisation", "memory_utilisation"),
    "power": ("power_w",),
    "power_limit": ("limit_w",),
    "energy": ("energy_j",),
    "temperature": ("temperature",),
    "sm_clock": ("sm_mhz",),
    "memory_clock": ("memory_mhz",),
    "reasons": ("reasons",),
    "ecc_corrected": ("ecc_corrected",),
    "ecc_uncorrected": ("ecc_uncorrected",),
    "remap_pending": ("remap_pending", "remap_failed"),
    "recovery": ("recovery",),
    "pcie_gen": ("pcie",),
    "pcie_gen_most": ("pcie_most",),
    "fan": ("fan",),
    "persistence": ("persistence",),
    "minor": ("minor",),
    "serial": ("serial",),
    "processes": ("processes",),
}


async def test_what_is_not_told_is_none_and_never_zero(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    """Each number by itself, in each of the ways in which drivers have none."""
    ways = ("na", "error:4", "error:13", "error:21", "error:25", "error:26", "error:27", "error:999")
    told = {"fan": 30}
    cards = {}
    for way in ways:
        nvml.tell(*(card(at, **{**told, name: way}) for at, name in enumerate(FIELDS)))
        async with watching(monkeypatch, nvml.variables) as eyes:
            cards[way] = (await eyes.until(lambda now: now.devices)).devices
    for way, devices in cards.items():
        for device, (name, fields) in zip(devices, FIELDS.items(), strict=True):
            none = {field for field in Device.__slots__ if getattr(device, field) is None}
            assert none == set(fields), (way, name)
            assert not device.lost


async def test_the_largest_number_is_no_number(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    nvml.tell(card(0, fan=2**32 - 1, energy=2**64 - 1, power=2**32 - 1, util=255), line("process", 0, pid=5, gi=1))
    async with watching(monkeypatch, nvml.variables) as eyes:
        device = (await eyes.until(lambda now: now.devices)).devices[0]
    assert (device.fan, device.energy_j, device.power_w, device.utilisation) == (None, None, None, None)
    assert device.processes == (Process(5, None, 0),)


async def test_energy_is_read_from_its_field_where_the_call_is_not_there(
    monkeypatch: pytest.MonkeyPatch, nvml: Stub
) -> None:
    nvml.tell(card(0, energy_field=7_000))
    async with watching(monkeypatch, nvml.variables) as eyes:
        assert (await eyes.until(lambda now: now.devices)).devices[0].energy_j == 7.0


async def test_a_program_that_comes_between_two_questions(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    nvml.tell(card(0, race=1), line("process", 0, pid=5, sm=30))
    async with watching(monkeypatch, nvml.variables) as eyes:
        assert (await eyes.until(lambda now: now.devices)).devices[0].processes == (Process(5, None, 30),)


async def test_an_old_driver_tells_as_much(monkeypatch: pytest.MonkeyPatch, nvml: Stub, old_nvml: Stub) -> None:
    said = (card(0), line("process", 0, pid=5, sm=30, memory=8), line("process", 0, pid=6, graphics=1))
    found = []
    for stub in (nvml, old_nvml):
        stub.tell(*said)
        async with watching(monkeypatch, stub.variables) as eyes:
            found.append(await eyes.until(lambda now: now.devices))
    new, old = found
    assert old.devices == new.devices
    assert old.cuda == new.cuda == "13.0"


async def test_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with watching(monkeypatch, without_library(tmp_path)) as eyes:
        found = await eyes.until(lambda now: True)
    assert (found.ok, found.present, found.devices) == (True, False, ())
    assert found.message == "no NVIDIA driver: everything but GPUs works"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "its kernel module is not loaded"),
        (18, "was upgraded and the old kernel module still runs: restart the machine"),
        (4, "does not answer: Insufficient Permissions"),
        (999, "does not answer: Unknown Error"),
    ],
)
async def test_a_driver_that_fails_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, nvml: Stub, tmp_path: Path, code: int, words: str
) -> None:
    bus = tmp_path / "bus"
    (bus / "0000:01:00.0").mkdir(parents=True)
    (bus / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    (bus / "0000:01:00.0" / "class").write_text("0x030000\n")
    nvml.tell(card(0), f"fail nvmlInitWithFlags {code}")
    async with watching(monkeypatch, nvml.variables, more=("--pci", str(bus))) as eyes:
        found = await eyes.until(lambda now: True)
        assert (found.ok, found.present, found.devices) == (False, True, ())
        assert words in found.message
        nvml.tell(card(0))
        eyes.watch.retry()
        assert (await eyes.until(lambda now: now.ok)).devices


async def test_a_library_that_was_left_behind_without_a_card_is_no_driver(
    monkeypatch: pytest.MonkeyPatch, nvml: Stub, tmp_path: Path
) -> None:
    (tmp_path / "bus").mkdir()
    nvml.tell("fail nvmlInitWithFlags 9")
    async with watching(monkeypatch, nvml.variables, more=("--pci", str(tmp_path / "bus"))) as eyes:
        found = await eyes.until(lambda now: True)
    assert (found.ok, found.present) == (True, False)
    assert "no NVIDIA card" in found.message


@pytest.mark.parametrize("code", [15, 16, 28])
async def test_a_card_that_is_lost_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, nvml: Stub, code: int
) -> None:
    nvml.tell(*(card(index) for index in range(8)))
    async with watching(monkeypatch, nvml.variables) as eyes:
        await eyes.until(lambda now: now.devices)
        nvml.add(f"error 3 * {code}")
        found = await eyes.until(lambda now: not now.ok)
        dead = one(found, 3)
        assert dead.lost.endswith(f"(NVML {code})")
        assert (dead.uuid, dead.name, dead.memory) == (uuid(3), "NVIDIA A100-SXM4-40GB", 40 * GIB)
        assert (dead.processes, dead.utilisation, dead.power_w) == (None, None, None)
        assert all(not device.lost and device.power_w for device in found.devices if device.index != 3)
        assert f"GPU 3 ({uuid(3)})" in found.message
        fault = await eyes.fault(lambda told: True)
        assert (fault.uuid, fault.kind) == (uuid(3), "card")
        eyes.watch.retry()  # a new process cannot even ask it who it is
        looks = eyes.looks
        found = await eyes.until(lambda now: eyes.looks > looks + 3 and one(now, 3).lost)
        assert len(found.devices) == 8
        nvml.drop(f"error 3 * {code}")
        eyes.watch.retry()
        assert not one(await eyes.until(lambda now: now.ok), 3).lost
    assert len(eyes.faults) == 1, "told once"


async def test_a_card_that_the_driver_does_not_list_any_more_is_lost(
    monkeypatch: pytest.MonkeyPatch, nvml: Stub
) -> None:
    nvml.tell(card(0), card(1))
    async with watching(monkeypatch, nvml.variables) as eyes:
        await eyes.until(lambda now: len(now.devices) == 2)
        nvml.tell(card(0))
        eyes.watch.retry()
        found = await eyes.until(lambda now: not now.ok)
    assert [device.lost for device in found.devices] == ["", "is no longer among the cards that the driver lists"]


HANGS = [
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceRegisterEvents",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetProcessUtilization",
]


@pytest.mark.parametrize("function", HANGS)
async def test_a_card_that_hangs_hides_no_other(monkeypatch: pytest.MonkeyPatch, nvml: Stub, function: str) -> None:
    nvml.tell(*(card(index) for index in range(8)), *(line("process", at, pid=at + 5, sm=1) for at in range(8)))
    async with watching(monkeypatch, nvml.variables, deadline_s=DEADLINE_S) as eyes:
        await eyes.until(lambda now: now.devices)
        nvml.add(f"hang 5 {function}")
        eyes.watch.retry()  # some are asked at the beginning only
        found = await eyes.until(lambda now: not now.ok)
        looks = eyes.looks
        found = await eyes.until(lambda now: eyes.looks > looks + 5 and not now.ok)
        assert [device.index for device in found.devices if device.lost] == [5]
        assert "did not answer within 2 s" in one(found, 5).lost
        assert one(found, 5).processes is None
        assert all(device.power_w == 200.5 for device in found.devices if device.index != 5)
        nvml.drop(f"hang 5 {function}")
        eyes.watch.retry()
        assert len((await eyes.until(lambda now: now.ok)).devices) == 8


async def test_a_card_that_was_silent_is_asked_again_by_and_by(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    monkeypatch.setattr(watch_module, "FORGIVE_S", 0.5)
    nvml.tell(card(0), card(1))
    async with watching(monkeypatch, nvml.variables, deadline_s=DEADLINE_S) as eyes:
        await eyes.until(lambda now: now.devices)
        nvml.add("hang 1 nvmlDeviceGetName", "hang 1 nvmlDeviceGetPowerUsage")
        await eyes.until(lambda now: one(now, 1).lost)
        looks = eyes.looks
        found = await eyes.until(lambda now: eyes.looks > looks + 20)
        assert one(found, 1).lost, "it still hangs"
        nvml.tell(card(0), card(1))
        assert not one(await eyes.until(lambda now: now.ok), 1).lost


async def test_a_driver_that_hangs_is_said_and_asked_again(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    nvml.tell(card(0), "stall nvmlInitWithFlags")
    async with watching(monkeypatch, nvml.variables, start_s=DEADLINE_S, deadline_s=DEADLINE_S) as eyes:
        found = await eyes.until(lambda now: not now.ok, known=False)
        assert found.message == "the NVIDIA driver did not answer within 2 s; see `nvidia-smi`"
        assert found.present
        assert not eyes.watch.known, "whether there are GPUs at all, nobody has said yet"
        nvml.tell(card(0))
        assert (await eyes.until(lambda now: now.ok)).devices


async def test_one_that_cannot_be_killed_is_left_behind(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    monkeypatch.setattr(child, "END_S", 0.2)
    nvml.tell(card(0), card(1))
    async with watching(monkeypatch, nvml.variables, deadline_s=DEADLINE_S, end=lambda process: None) as eyes:
        await eyes.until(lambda now: now.devices)
        nvml.add("hang 1 nvmlDeviceGetPowerUsage")
        looks = eyes.looks
        found = await eyes.until(lambda now: eyes.looks > looks + 5 and one(now, 1).lost and one(now, 0).power_w)
        assert [process.poll() for process in eyes.watch.left] == [None]
        assert f"left behind: {eyes.watch.left[0].pid}" in found.message
        began = time.monotonic()
        async with asyncio.timeout(WITHIN_S):
            await eyes.watch.close()
        assert time.monotonic() - began < WITHIN_S / 2


@pytest.mark.parametrize(
    ("xid", "kind"), [(13, "run"), (31, "run"), (79, "card"), (48, "card"), (63, "note"), (45, "note"), (7777, "note")]
)
async def test_an_xid_is_told_once_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, nvml: Stub, xid: int, kind: str
) -> None:
    nvml.tell(card(0), card(1))
    async with watching(monkeypatch, nvml.variables) as eyes:
        await eyes.until(lambda now: now.devices)
        nvml.add(line("xid", 1, xid, gi=3))
        fault = await eyes.fault(lambda told: True)
        looks = eyes.looks
        await eyes.until(lambda now: eyes.looks > looks + 3)
    assert (fault.uuid, fault.xid, fault.kind, fault.gi) == (uuid(1), xid, kind, 3)
    assert fault.words.startswith(f"Xid {xid}: ")
    assert len(eyes.faults) == 1


async def test_the_xid_of_a_card_that_fell_off_the_bus(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    """Nobody can be asked who reported it."""
    nvml.tell(card(0), card(1))
    async with watching(monkeypatch, nvml.variables) as eyes:
        await eyes.until(lambda now: now.devices)
        nvml.add("lost 1", line("xid", 1, 79))
        fault = await eyes.fault(lambda told: told.xid == 79)
        assert (fault.uuid, fault.kind) == (uuid(1), "card")
        await eyes.until(lambda now: one(now, 1).lost)


async def test_what_the_driver_wants_done_is_told_beside_its_xid(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    nvml.tell(card(0))
    async with watching(monkeypatch, nvml.variables) as eyes:
        await eyes.until(lambda now: now.devices)
        nvml.tell(card(0, recovery=2), line("xid", 0, 154))
        fault = await eyes.fault(lambda told: told.kind == "card")
        assert "restart of the machine" in fault.words
        nvml.add("event 0 0x4000")
        await eyes.fault(lambda told: "unavailable" in told.words)


async def test_a_driver_that_is_replaced_is_asked_by_a_new_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    stub = Stub(tmp_path, build(tmp_path / "lib"))
    stub.tell(card(0))
    async with watching(monkeypatch, stub.variables) as eyes:
        await eyes.until(lambda now: now.devices)
        stub.tell(card(0), "fail nvmlInitWithFlags 18")
        looks = eyes.looks
        await eyes.until(lambda now: eyes.looks > looks + 3)
        assert eyes.watch.latest.ok, "whoever has the old library does not see it"
        (tmp_path / "new").mkdir()
        (build(tmp_path / "new") / "libnvidia-ml.so.1").replace(tmp_path / "lib" / "libnvidia-ml.so.1")
        found = await eyes.until(lambda now: not now.ok)
        assert "was upgraded" in found.message
        assert [device.lost for device in found.devices] == [""], "not before it has lasted"
        assert found.devices[0].processes is None


def test_whoever_asks_ends_with_the_daemon(nvml: Stub) -> None:
    nvml.tell(card(0), "hang 0 nvmlDeviceGetPowerUsage")
    program = (
        "import asyncio\n"
        "from appliance.gpu.watch import GpuWatch\n"
        "async def main():\n"
        "    watch = GpuWatch(deadline_s=600)\n"
        "    task = asyncio.create_task(watch.run())\n"
        "    while watch._child is None: await asyncio.sleep(0.01)\n"
        "    print(watch._child.process.pid, flush=True)\n"
        "    await task\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], env=nvml.environment, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        eventually(lambda: "libnvidia-ml" in _maps(pid), within_s=20, what="the library in the child")
        daemon.send_signal(signal.SIGKILL)
    eventually(lambda: not _runs(pid), within_s=20, what=f"the end of {pid}")


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_daemon_stops_though_a_card_hangs(nvml: Stub, tmp_path: Path) -> None:
    """With no engine: only the card keeps it."""
    nvml.tell(card(0), card(1), "hang 1 nvmlDeviceGetHandleByIndex_v2", "hang 1 nvmlDeviceGetName")
    home = tmp_path / "home"
    home.mkdir()
    daemon = RunningDaemon(home)
    daemon.extra = {**nvml.variables, "APPLIANCE_DOCKER_HOST": f"unix://{tmp_path}/no-engine.sock"}
    daemon.launch()
    began = time.monotonic()
    try:
        part = eventually(
            lambda: _part(daemon), within_s=60, what=lambda: f"words of the GPUs; the log:\n{daemon.log.read_text()}"
        )
        assert not part["ok"]
        assert "did not answer within 5 s" in str(part["message"])
        began = time.monotonic()
    finally:
        process = daemon._process
        daemon.stop()
        took = time.monotonic() - began
        daemon.cli("stop", "--all")  # the front door goes on without the daemon
    assert process is not None
    assert process.returncode == 0
    assert took < STOP_S


def _part(daemon: RunningDaemon) -> dict[str, object] | None:
    try:
        parts = daemon.client.status()["parts"]
    except Exception:
        return None
    return next((dict(part) for part in parts if part["name"] == "gpu" and not part["ok"]), None)


async def test_what_it_costs_to_look(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    """Processor time of the child for a look at eight busy cards; a look a second is what the daemon asks for."""
    nvml.tell(*(card(at) for at in range(8)), *(line("process", at % 8, pid=at + 5, sm=9) for at in range(32)))
    async with watching(monkeypatch, nvml.variables) as eyes:
        await eyes.until(lambda now: now.devices)
        assert eyes.watch._child is not None
        pid, looks = eyes.watch._child.process.pid, eyes.looks
        before = _cpu_s(pid)
        await eyes.until(lambda now: eyes.looks >= looks + 60)
        each = (_cpu_s(pid) - before) / (eyes.looks - looks)
        rss = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    print(f"a look at 8 cards with 32 programs: {1000 * each:.2f} ms of the child's processor; {rss}")
    assert each < 0.1


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
