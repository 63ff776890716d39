"""What was read becomes samples; and the machine's own files become numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.usage.counters import Counters
from appliance.gpu.types import Device, Inventory, Mig, Process
from appliance.sampling import machine, samples
from appliance.sampling.machine import Machine
from appliance.sampling.samples import Busy
from appliance.telemetry.metrics.types import Sample, Subject

RUN = Subject("run", "train.1", "fit", "c1")
OTHER = Subject("notebook", "lab", "", "c2")


def values(found: list[Sample], subject: Subject | None = None) -> dict[str, float]:
    return {one.metric: one.value for one in found if subject in (None, one.subject)}


def test_percent_of_one_processor() -> None:
    assert samples.percent(Busy(10, 1), Busy(12, 6)) == 250
    assert samples.percent(None, Busy(12, 6)) is None
    assert samples.percent(Busy(12, 6), Busy(12.01, 6)) is None
    assert samples.percent(Busy(10, 100), Busy(12, 1)) == 50, "a counter that went back began anew"


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_percentage_is_never_negative(at: float, cpu: float, later: float, more: float) -> None:
    found = samples.percent(Busy(at, cpu), Busy(later, more))
    assert found is None or found >= 0


def test_what_is_not_known_has_no_sample() -> None:
    whole = samples.of_container(RUN, Counters(2.5, 3000, 70000, 1, 2, 3, 4, 5), 12.0, at=9.0)
    assert values(whole) == {
        "container_cpu_percent": 12,
        "container_cpu_seconds_total": 2.5,
        "container_memory_bytes": 3000,
        "container_memory_limit_bytes": 70000,
        "container_io_read_bytes_total": 1,
        "container_io_written_bytes_total": 2,
        "container_network_received_bytes_total": 3,
        "container_network_sent_bytes_total": 4,
        "container_pids": 5,
    }
    assert {(one.subject, one.at, one.step, one.labels) for one in whole} == {(RUN, 9.0, None, ())}
    bare = samples.of_container(RUN, Counters(0.0, 0), None, at=9.0)
    assert values(bare) == {"container_cpu_seconds_total": 0, "container_memory_bytes": 0}
    assert samples.of_machine(Machine(), None, at=9.0) == []
    assert values(samples.of_machine(Machine(cpus=2, swap_used=0), 5.0, at=9.0)) == {
        "machine_cpu_percent": 5,
        "machine_cpus": 2,
        "machine_swap_used_bytes": 0,
    }


def test_each_container_has_its_part_of_a_card() -> None:
    card = Device(
        uuid="GPU-1",
        index=0,
        memory=80,
        used=50,
        utilisation=90,
        power_w=300.5,
        processes=(Process(1, 10, 30), Process(2, 20, 40), Process(3, 5, None), Process(4, 15, 20)),
    )
    found = samples.of_gpus(Inventory(9.0, (card,)), {1: RUN, 2: RUN, 3: OTHER}, at=9.0)
    assert values(found, RUN) == {"container_gpu_memory_bytes": 30, "container_gpu_percent": 70}
    assert values(found, OTHER) == {"container_gpu_memory_bytes": 5}, "the driver does not tell the rest"
    machines = values([one for one in found if one.subject.kind == "machine"])
    assert machines == {
        "machine_gpu_percent": 90,
        "machine_gpu_memory_bytes": 80,
        "machine_gpu_memory_used_bytes": 50,
        "machine_gpu_power_watts": 300.5,
    }
    assert {one.labels for one in found} == {(("gpu", "GPU-1"),)}


def test_a_lost_card_tells_nothing_and_an_instance_is_a_card() -> None:
    lost = Device(uuid="GPU-1", index=0, used=1, lost="gone", processes=(Process(1, 1, 1),))
    split = Device(uuid="GPU-2", index=1, mig=True, migs=(Mig("MIG-1", "1g", processes=(Process(1, 7),)),))
    found = samples.of_gpus(Inventory(9.0, (lost, split)), {1: RUN}, at=9.0)
    assert [(one.metric, one.value, one.labels) for one in found] == [
        ("container_gpu_memory_bytes", 7.0, (("gpu", "MIG-1"),))
    ]


STAT = "cpu  100 0 50 1000 30 5 5 40 999 999\ncpu0 50 0 25 500 15 0 0 0 0 0\ncpu1 1 1 1 1\nintr 1 2 3\n"
DISKS = (
    "   8       0 sda 10 0 100 5 20 0 200 5 0 1 1\n   8       1 sda1 10 0 100 5 20 0 200 5 0 1 1\n"
    "   7       0 loop0 1 0 7 1 1 0 7 1 0 1 1\n 259 0 nvme0n1 1 0 1 1 1 0 2 1 0 1 1\n"
)


def test_the_machines_files() -> None:
    ticks = machine._TICKS
    assert machine.processors(STAT) == (200 / ticks, 2)
    told = "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 30 kB\nSwapTotal: 8 kB\nSwapFree: 5 kB\nHugePages_Total: 0\n"
    assert machine.memories(told) == (102_400, 71_680, 3072)
    assert machine.disk_bytes(DISKS, ["sda", "nvme0n1"]) == (101 * 512, 202 * 512)
    net = "lo: 9 0 0 0 0 0 0 0 9 0\neth0: 5 0 0 0 0 0 0 0 6 0\nveth1: 7 0 0 0 0 0 0 0 8 0\n"
    assert machine.network_bytes(net, ["eth0"]) == (5, 6)
    assert machine.network_bytes(net, []) == (12, 14)


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu a b c d e f g h\n", "MemTotal:\n", "1 2 sda\n", "eth0: x\n"])
def test_what_is_not_told_is_not_known(text: str) -> None:
    assert machine.processors(text) == (None, None)
    assert machine.memories(text) == (None, None, None)
    assert machine.disk_bytes(text, ["sda"]) == (None, None)
    assert machine.network_bytes(text, []) == (None, None)


def test_a_machine_without_files_and_this_one(tmp_path: Path) -> None:
    assert machine.look(tmp_path, tmp_path) == Machine()
    here = machine.look()
    assert here.cpu_s is not None
    assert here.cpus is not None
    assert here.memory is not None
    assert here.memory_used is not None
    assert 0 < here.memory_used < here.memory
