"""When a lease is free, what can be leased, who overruns a share and who leaves a GPU idle."""

from __future__ import annotations

import pytest

from appliance.gpu.types import Device, Inventory, Mig, Process
from appliance.scheduler import budgets, idle
from appliance.scheduler.budgets import Budget
from appliance.scheduler.cards import FOREIGN_BYTES, cards
from appliance.scheduler.freeing import BLIND_S, STUCK_S, free
from appliance.scheduler.idle import Use
from tests.support.cluster import GIB


def test_a_lease_is_free_only_without_its_container_and_its_processes() -> None:
    assert not free(container="running", pids=(), since=0, now=1e9).free
    assert free(container="gone", pids=(), since=0, now=0).free
    assert free(container="ended", pids=(), since=0, now=0).free


def test_a_process_that_stays_is_named_and_waited_for_as_long_as_it_takes() -> None:
    found = free(container="gone", pids=(42, 7), since=0, now=STUCK_S)
    assert not found.free
    assert "7, 42" in found.words
    assert "reboot" in found.words
    assert "reboot" not in free(container="gone", pids=(42,), since=0, now=1).words


def test_where_processes_cannot_be_seen_it_is_freed_after_a_while_and_said() -> None:
    assert not free(container="gone", pids=None, since=0, now=BLIND_S - 1).free
    late = free(container="gone", pids=None, since=0, now=BLIND_S)
    assert late.free
    assert "cannot be seen" in late.words


def inventory(*devices: Device) -> Inventory:
    return Inventory(at=0.0, devices=devices)


def test_a_card_is_one_thing_to_lease_and_a_split_one_its_instances() -> None:
    split = Device("GPU-b", 1, "A100", mig=True, migs=(Mig("MIG-1", "1g.10gb", memory=GIB), Mig("MIG-2", "2g.20gb")))
    found = cards(inventory(Device("GPU-a", 0, "RTX", memory=GIB), split), {}, ())
    assert [(card.id, card.parent, card.kind, card.profile) for card in found] == [
        ("GPU-a", "GPU-a", "whole", ""),
        ("MIG-1", "GPU-b", "mig", "1g.10gb"),
        ("MIG-2", "GPU-b", "mig", "2g.20gb"),
    ]
    assert found[2].memory is None
    assert cards(inventory(Device("GPU-b", 0, mig=True)), {}, ()) == ()


def test_a_lost_card_says_why_and_hides_no_other() -> None:
    lost, well = cards(inventory(Device("GPU-a", 0, lost="fell off the bus"), Device("GPU-b", 1)), {}, ())
    assert (lost.state, lost.why, well.state) == ("lost", "fell off the bus", "ok")


def test_draining_a_card_drains_its_instances() -> None:
    device = Device("GPU-b", 1, mig=True, migs=(Mig("MIG-1", "1g"), Mig("MIG-2", "1g")))
    assert [card.state for card in cards(inventory(device), {"GPU-b": "Xid 79"}, ())] == ["drained", "drained"]
    assert [card.state for card in cards(inventory(device), {"MIG-2": "asked"}, ())] == ["ok", "drained"]


@pytest.mark.parametrize(
    ("process", "state"),
    [
        (Process(9, 2 * FOREIGN_BYTES), "foreign"),
        (Process(9, None), "foreign"),
        (Process(9, FOREIGN_BYTES), "ok"),
        (Process(9, 2 * FOREIGN_BYTES, graphics=True), "ok"),
        (Process(5, 2 * FOREIGN_BYTES), "ok"),
    ],
)
def test_a_card_on_which_somebody_else_computes_is_not_given(process: Process, state: str) -> None:
    (card,) = cards(inventory(Device("GPU-a", 0, processes=(process,))), {}, ours={5})
    assert card.state == state
    assert ("9" in card.why) == (state == "foreign")


def test_a_share_is_warned_at_its_budget_and_ended_well_over_it_after_a_while() -> None:
    assert budgets.judge(10 * GIB, 10 * GIB, Budget(), now=0).state == "ok"
    assert budgets.judge(10 * GIB, 10 * GIB + 1, Budget(), now=0).state == "warned"
    over = budgets.judge(10 * GIB, 12 * GIB, Budget(), now=0)
    assert over.state == "warned"
    assert budgets.judge(10 * GIB, 12 * GIB, over, now=budgets.GRACE_S - 1).state == "warned"
    killed = budgets.judge(10 * GIB, 12 * GIB, over, now=budgets.GRACE_S)
    assert killed.state == "kill"
    assert "12 GiB" in killed.words
    # a moment below it begins anew, and what cannot be seen kills nobody
    below = budgets.judge(10 * GIB, GIB, over, now=20)
    assert budgets.judge(10 * GIB, 12 * GIB, below, now=budgets.GRACE_S).state == "warned"
    assert budgets.judge(10 * GIB, None, over, now=1e6).state == "unknown"


def test_who_uses_its_gpu_is_busy_and_who_does_not_is_idle_after_a_while() -> None:
    use = idle.used(Use(0, 0), [0, 80], now=100)
    assert idle.judge(use, after_s=60, stop=True, waiting=["run a"], now=159).state == "busy"
    use = idle.used(use, [0, 0], now=160)
    assert idle.judge(use, after_s=60, stop=True, waiting=[], now=160).state == "idle"
    assert idle.judge(use, after_s=60, stop=False, waiting=["run a"], now=160).state == "idle"
    stop = idle.judge(use, after_s=60, stop=True, waiting=["run a"], now=160)
    assert stop.state == "stop"
    assert "run a waits" in stop.words


def test_what_cannot_be_seen_is_not_idle_and_counts_anew_once_it_can() -> None:
    use = idle.used(Use(0, 0), [None], now=1000)
    assert idle.judge(use, after_s=60, stop=True, waiting=["run a"], now=1000).state == "unknown"
    use = idle.used(use, [0], now=1010)
    assert idle.judge(use, after_s=60, stop=True, waiting=["run a"], now=1069).state == "busy"
    assert idle.used(Use(0, 0), [], now=5).known is False
