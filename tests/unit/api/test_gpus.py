"""`/v1/gpus`, `/v1/leases` and the ledger, over a scheduler that stands still."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.errors import NotFound
from appliance.gpu.types import Device, Fault, Inventory, Mig, Process
from appliance.scheduler.attribution import Share
from appliance.scheduler.types import Card, Held, Request, Wait, Who
from appliance.scheduler.view import Lease, Queue, Waiting
from appliance.spec.machines import Shape
from appliance.state import ledger
from appliance.state.ledger import Entry
from tests.conftest import Clock
from tests.unit.api.test_api import House, house, is_problem

__all__ = ["house"]  # the fixture
pytestmark = pytest.mark.anyio

LAB = Who("notebook", "lab", "u1", owner="ada")
WHOLE = Device("GPU-1", 0, "NVIDIA A100", memory=80, used=10, processes=(Process(7, 10, 50),), reasons=0x4)
SPLIT = Device("GPU-2", 1, mig=True, migs=(Mig("MIG-1", "1g.10gb", memory=10), Mig("MIG-2", "3g.40gb")))


class StillScheduler:
    def __init__(self) -> None:
        self.queue = Queue(1000.0, Inventory(1000.0, (WHOLE, SPLIT), "550.1", "12.4", "2 GPUs", present=True))
        self.done: list[tuple[str, ...]] = []

    def snapshot(self) -> Queue:
        return self.queue

    def drain(self, uuid: str, why: str) -> None:
        if uuid not in ("GPU-1", "MIG-1"):
            raise NotFound(f"no GPU {uuid!r} here")
        self.done.append((uuid, why))

    def resume(self, uuid: str) -> None:
        self.done.append((uuid,))

    def instead(self, machine: str, gpus: int = 0) -> str:
        return ""

    def free_cards(self, shape: Shape) -> int | None:
        return None


@pytest.fixture
def scheduler(house: House) -> StillScheduler:
    made = StillScheduler()
    house.parts.gpus = made
    return made


async def items(house: House, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = await house.trusted.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_a_machine_without_gpus_says_so(house: House) -> None:
    answer = (await house.trusted.get("/v1/gpus")).json()
    assert (answer["items"], answer["ok"], answer["driver"]) == ([], True, None)
    assert answer["message"]
    assert await items(house, "/v1/leases") == []
    assert await items(house, "/v1/gpu/ledger") == []
    is_problem(await house.trusted.post("/v1/gpus/GPU-1/drain", json={}), 409, "conflict")


async def test_what_the_driver_does_not_tell_is_null(house: House, scheduler: StillScheduler) -> None:
    whole, split = await items(house, "/v1/gpus")
    for field in ("utilisation", "power_w", "temperature", "energy_j", "ecc_corrected", "fan", "pcie"):
        assert whole[field] is None, field
    assert whole["processes"] == [{"pid": 7, "memory": 10, "sm": 50, "graphics": False}]
    assert split["processes"] is None
    assert len(whole["throttled"]) == 1
    assert split["throttled"] == []


async def test_each_card_tells_who_has_it_and_what_is_wrong(house: House, scheduler: StillScheduler) -> None:
    held = Held(Request("l1", LAB, Shape(1), asked=900.0), ("GPU-1",), 950.0)
    share = Share("l1", "GPU-1", "GPU-1", 0.5, None, None, measured=True)
    scheduler.queue = replace(
        scheduler.queue,
        cards=(
            Card("GPU-1", "GPU-1"),
            Card("MIG-1", "GPU-2", "mig", "1g.10gb", state="drained", why="Xid 79"),
            Card("MIG-2", "GPU-2", "mig", "3g.40gb"),
        ),
        leases=(Lease(held, "c" * 64, "as asked"),),
        faults=(Fault(990.0, "GPU-2", "card", "it fell off the bus", 79),),
        shares=(share,),
        sampled_s=1.0,
    )
    whole, split = await items(house, "/v1/gpus")
    (card,) = whole["cards"]
    assert card["holders"] == [
        {
            "lease": "l1",
            "kind": "notebook",
            "name": "lab",
            "part": "",
            "owner": "ada",
            "since": 950.0,
            "freeing": False,
            "message": "as asked",
            "used": 50.0,
        }
    ]
    assert [(part["uuid"], part["state"], part["why"]) for part in split["cards"]] == [
        ("MIG-1", "drained", "Xid 79"),
        ("MIG-2", "ok", ""),
    ]
    assert (whole["fault"], split["fault"]) == ("", "it fell off the bus")
    (lease,) = await items(house, "/v1/leases")
    assert (lease["state"], lease["cards"], lease["asks"], lease["container"]) == ("held", ["GPU-1"], "1 GPU", "c" * 64)


async def test_who_waits_is_told_why_behind_whom_and_until_when(house: House, scheduler: StillScheduler) -> None:
    asks = Request("l2", Who("run", "w.1", "u2", "fit"), Shape(1, mig="1g.10gb"), 5, asked=900.0, preemptible=True)
    wait = Wait("l2", 1, "no 1g.10gb is free", "behind notebook lab", 2000.0)
    scheduler.queue = replace(scheduler.queue, waiting=(Waiting(asks, wait),))
    (lease,) = await items(house, "/v1/leases")
    assert lease == {
        "id": "l2",
        "state": "waiting",
        "kind": "run",
        "name": "w.1",
        "part": "fit",
        "owner": "local",
        "priority": 5,
        "preemptible": True,
        "cards": [],
        "asks": "1g.10gb",
        "asked": 900.0,
        "since": None,
        "place": 1,
        "why": "no 1g.10gb is free",
        "behind": "behind notebook lab",
        "forecast": 2000.0,
        "container": "",
        "message": "",
    }


async def test_a_card_goes_out_of_service_and_comes_back(house: House, scheduler: StillScheduler) -> None:
    answer = await house.trusted.post("/v1/gpus/GPU-1/drain", json={"why": "a new\x1b[2J fan\n"})
    assert answer.status_code == 204
    named = {"x-appliance-author": "ada"}
    assert (await house.trusted.post("/v1/gpus/MIG-1/drain", json={}, headers=named)).status_code == 204
    assert (await house.trusted.post("/v1/gpus/GPU-1/resume", json={})).status_code == 204
    assert scheduler.done == [("GPU-1", "a new[2J fan"), ("MIG-1", "ada took it out of service"), ("GPU-1",)]
    is_problem(await house.trusted.post("/v1/gpus/GPU-9/drain", json={}), 404, "not_found")
    is_problem(await house.trusted.post("/v1/gpus/GPU-1/drain", json={"why": "x" * 201}), 400, "usage")
    is_problem(await house.trusted.post("/v1/gpus/GPU-1/drain", json={"force": True}), 400, "usage")


async def test_metrics_have_a_line_for_what_is_known_only(house: House, scheduler: StillScheduler) -> None:
    busy = replace(WHOLE, utilisation=50, power_w=251.5, energy_j=123456.789, ecc_uncorrected=0)
    held = Held(Request("l1", LAB, Shape(1)), ("GPU-1",), 950.0)
    waits = Request("l2", LAB, Shape(1), asked=scheduler.queue.at - 90)
    fetches = Request("l3", LAB, Shape(1), asked=scheduler.queue.at - 900, ready=False)
    scheduler.queue = replace(
        scheduler.queue,
        inventory=replace(scheduler.queue.inventory, devices=(busy, replace(SPLIT, uuid='GPU-"2'))),
        cards=(Card("GPU-1", "GPU-1"), Card("MIG-1", 'GPU-"2', "mig", state="drained")),
        leases=(Lease(held),),
        waiting=(Waiting(waits, Wait("l2", 1, "")), Waiting(fetches, Wait("l3", 2, ""))),
    )
    lines = (await house.trusted.get("/metrics")).text.splitlines()
    for line in (
        'appliance_gpu_utilisation_ratio{gpu="GPU-1"} 0.5',
        'appliance_gpu_power_watts{gpu="GPU-1"} 251.5',
        "# TYPE appliance_gpu_energy_joules_total counter",
        'appliance_gpu_energy_joules_total{gpu="GPU-1"} 123456.789',
        'appliance_gpu_ecc_uncorrected_total{gpu="GPU-1"} 0',
        'appliance_gpu_lost{gpu="GPU-\\"2"} 0',
        'appliance_gpu_card_held{gpu="GPU-1",card="GPU-1"} 1',
        'appliance_gpu_card_in_service{gpu="GPU-\\"2",card="MIG-1"} 0',
        'appliance_gpu_leases{state="waiting"} 2',
        "appliance_gpu_longest_wait_seconds 90",
    ):
        assert line in lines, line
    assert not any("power_watts" in line and "2" in line.partition("}")[0] for line in lines)
    assert not any("temperature" in line for line in lines)
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


async def test_a_machine_without_a_gpu_has_no_metrics_of_one(house: House, scheduler: StillScheduler) -> None:
    assert (await house.trusted.get("/metrics")).text.count("appliance_gpu") > 0
    scheduler.queue = Queue(1000.0, Inventory(1000.0))
    assert "appliance_gpu" not in (await house.trusted.get("/metrics")).text


async def test_the_ledger_by_owner_since_a_time(house: House, clock: Clock) -> None:
    hour = int(clock() // 3600) * 3600
    lab = ("notebook", "lab", "u1", "", "ada")
    rows = [
        Entry(hour, "GPU-1", *lab, held_s=60, used_s=30, memory_gb_s=3600, energy_j=9000, measured=True),
        Entry(hour, "GPU-1", "run", "w.1", "u2", "fit", "bob", held_s=30, energy_j=100, measured=False),
        Entry(hour, "GPU-1", "idle", "", "", "", "(idle)", energy_j=50, measured=False),
        Entry(hour - 7200, "GPU-1", *lab, held_s=3600),
    ]
    with house.db.write() as db:
        ledger.add(db, rows)
    found = await items(house, "/v1/gpu/ledger", since=hour)
    assert [row["key"] for row in found] == ["ada", "bob", "(idle)"]
    assert found[0] == {
        "key": "ada",
        "held_s": 60.0,
        "used_s": 30.0,
        "memory_gb_h": 1.0,
        "energy_j": 9000.0,
        "measured": True,
    }
    assert (found[1]["used_s"], found[1]["memory_gb_h"], found[1]["measured"]) == (None, None, False)
    assert (await items(house, "/v1/gpu/ledger"))[0]["held_s"] == 3660
    names = [row["key"] for row in await items(house, "/v1/gpu/ledger", by="name", since=hour)]
    assert names == ["notebook/lab", "run/w.1", "idle"]
    (card,) = await items(house, "/v1/gpu/ledger", by="device", since=hour)
    assert (card["key"], card["energy_j"]) == ("GPU-1", 9150.0)
    is_problem(await house.trusted.get("/v1/gpu/ledger?by=mood"), 400, "usage")
    is_problem(await house.trusted.get("/v1/gpu/ledger?since=lately"), 400, "usage")
