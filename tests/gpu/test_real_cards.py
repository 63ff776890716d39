"""A real driver beside what `nvidia-smi` says of it. Skipped, saying so, where there is none."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.gpu.types import Device, Inventory
from appliance.gpu.watch import GpuWatch

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not shutil.which("nvidia-smi")
        or subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode != 0,
        reason="no NVIDIA GPU here: what a card would show is in tests/gpu/README.md",
    ),
]

WITHIN_S = 120.0
MIB = 2**20


@pytest.fixture
async def watch() -> AsyncIterator[GpuWatch]:
    found = GpuWatch()
    task = asyncio.create_task(found.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            while not found.latest.devices:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await found.close()


async def looks(watch: GpuWatch, number: int) -> list[Inventory]:
    found: list[Inventory] = []
    enough = asyncio.Event()

    def take(one: Inventory) -> None:
        found.append(one)
        if len(found) >= number:
            enough.set()

    watch.on_inventory.append(take)
    async with asyncio.timeout(WITHIN_S):
        await enough.wait()
    return found


def smi() -> dict[str, ET.Element]:
    """By uuid, what `nvidia-smi -q -x` says."""
    told = subprocess.run(["nvidia-smi", "-q", "-x"], capture_output=True, check=True, timeout=WITHIN_S).stdout
    return {(card.findtext("uuid") or ""): card for card in ET.fromstring(told).findall("gpu")}


def number(card: ET.Element, *paths: str) -> float | None:
    for path in paths:
        word = (card.findtext(path) or "").split()
        try:
            return float(word[0])
        except (ValueError, IndexError):
            continue
    return None


async def test_the_inventory_is_what_nvidia_smi_says(watch: GpuWatch) -> None:
    told = await asyncio.to_thread(smi)
    found = {device.uuid: device for device in watch.latest.devices}
    assert found.keys() == told.keys()
    for uuid, device in found.items():
        print(f"{device.name}: {device}")
        card = told[uuid]
        assert device.name == card.findtext("product_name")
        assert device.bus == (card.get("id") or "").lower()
        same(device.memory, number(card, "fb_memory_usage/total"), scale=MIB, within=2 * MIB)
        same(
            device.limit_w,
            number(card, "gpu_power_readings/current_power_limit", "power_readings/enforced_power_limit"),
            within=1,
        )
        same(device.temperature, number(card, "temperature/gpu_temp"), within=5)
        same(device.ecc_uncorrected, number(card, "ecc_errors/volatile/dram_uncorrectable"), within=1e9)


def same(ours: float | None, theirs: float | None, *, within: float, scale: float = 1.0) -> None:
    """Who is told a number has it, and as large."""
    if theirs is not None:
        assert ours is not None
        assert abs(ours - theirs * scale) <= within


async def test_energy_is_power_over_time(watch: GpuWatch) -> None:
    found = await looks(watch, 12)
    for first, last in zip(found[1].devices, found[-1].devices, strict=True):
        if first.energy_j is None or last.energy_j is None:
            continue
        seconds = found[-1].at - found[1].at
        mean = _mean_power(found[1:], first)
        gained = last.energy_j - first.energy_j
        print(f"{first.name}: counter {gained:.1f} J in {seconds:.2f} s, power x time {mean * seconds:.1f} J")
        assert 0.5 * mean * seconds <= gained <= 2 * mean * seconds + 10


def _mean_power(looks: list[Inventory], card: Device) -> float:
    told = [one.power_w for look in looks for one in look.devices if one.uuid == card.uuid and one.power_w is not None]
    return sum(told) / len(told) if told else 0.0


async def test_what_it_costs_to_look(watch: GpuWatch) -> None:
    assert watch._child is not None
    stat = Path(f"/proc/{watch._child.process.pid}/stat")

    def cpu_s() -> float:
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = cpu_s()
    found = await looks(watch, 30)
    spent, seconds = cpu_s() - before, found[-1].at - found[0].at
    print(f"{len(found[-1].devices)} cards: {100 * spent / seconds:.2f} % of a processor")
    assert spent / seconds < 0.1
