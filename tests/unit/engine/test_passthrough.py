from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import appliance
from appliance.engine.passthrough import CAPABILITIES, CUDA_VISIBLE, VISIBLE, advice, passing
from appliance.engine.types import EngineInfo
from appliance.errors import EngineError

MIG = "MIG-11111111-1111-1111-1111-111111111111"
OLD_MIG = "MIG-GPU-11111111-1111-1111-1111-111111111111/7/0"
UUIDS = st.lists(st.sampled_from(["GPU-a", "GPU-b", "GPU-c", MIG]), min_size=1)


def info(*devices: str) -> EngineInfo:
    return EngineInfo(
        version="28.5.2",
        api_version="1.51",
        root=Path("/var/lib/docker"),
        cpus=1,
        memory_bytes=1,
        cgroup_version="1",
        storage_driver="overlay2",
        gpu_runtime=True,
        cdi=True,
        cdi_devices=frozenset(f"nvidia.com/gpu={device}" for device in devices),
    )


@pytest.mark.parametrize("engine", [None, info(), info("GPU-a")])
def test_no_lease_is_no_gpu(engine: EngineInfo | None) -> None:
    found = passing((), engine)
    assert (found.kind, found.requests, found.env) == ("none", (), {VISIBLE: "void"})


@pytest.mark.parametrize("devices", [["GPU-a"], ["GPU-a", MIG], [OLD_MIG]])
@pytest.mark.parametrize("engine", [None, info(), info("0", "all"), info("GPU-b", "MIG-2")])
def test_the_hook_where_cdi_does_not_know_every_card_by_its_uuid(engine: EngineInfo | None, devices: list[str]) -> None:
    found = passing(devices, engine)
    assert found.kind == "hook"
    assert found.requests == (
        {"Driver": "nvidia", "DeviceIDs": devices, "Capabilities": [["gpu", "compute", "utility"]]},
    )
    assert found.env == {VISIBLE: ",".join(devices), CAPABILITIES: "compute,utility", CUDA_VISIBLE: None}


def test_cdi_where_it_knows_them_all() -> None:
    found = passing(["GPU-a", MIG], info("0", "GPU-a", MIG, "GPU-b"))
    assert found.kind == "cdi"
    assert found.requests == ({"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-a", f"nvidia.com/gpu={MIG}"]},)
    # a runtime of NVIDIA's that starts every container must not add a card to them
    assert found.env == {VISIBLE: "void", CUDA_VISIBLE: None}


@given(UUIDS, st.sets(st.sampled_from(["0", "1", "all", "GPU-a", "GPU-b", "GPU-c", MIG])))
def test_what_is_asked_for_is_the_lease_and_one_way_only(uuids: list[str], known: set[str]) -> None:
    found = passing(uuids, info(*known))
    (request,) = found.requests
    asked = [name.removeprefix("nvidia.com/gpu=") for name in request["DeviceIDs"]]
    assert sorted(asked) == sorted(set(uuids))
    assert (request["Driver"] == "cdi") is (set(uuids) <= known)
    assert "Count" not in request


@pytest.mark.parametrize(
    "wrong", ["all", "void", "none", "0", "", "0,1", "GPU-a,GPU-b", "GPU-a\nGPU-b", "GPU-", "gpu-a", "GPU-a/../b"]
)
@pytest.mark.parametrize("engine", [None, info("all", "0", "GPU-a")])
def test_what_is_no_uuid_is_asked_of_nobody(wrong: str, engine: EngineInfo | None) -> None:
    with pytest.raises(EngineError, match="is not the UUID of a GPU"):
        passing(["GPU-a", wrong], engine)


@pytest.mark.parametrize(
    ("uuids", "engine", "told"),
    [
        ([], replace(info(), gpu_runtime=False), []),
        (["GPU-a"], info(), []),
        (["GPU-a", MIG], info("GPU-a", MIG, "0", "1:0", "all"), []),
        (["GPU-a"], replace(info(), gpu_runtime=False), ["no way to give a container a GPU"]),
        (["GPU-a"], info("GPU-a", "GPU-b"), ["not there: GPU-b;"]),
        (["GPU-a"], info("GPU-a", "GPU-b", "GPU-c"), ["not there: GPU-b and 1 more;"]),
        (["GPU-a", "GPU-b"], info("GPU-a"), ["does not name GPU-b by UUID"]),
        (["GPU-a"], info("0", "all"), ["does not name GPU-a by UUID"]),
        (["MIG-2"], info("MIG-1"), ["not there: MIG-1;", "does not name MIG-2 by UUID"]),
    ],
)
def test_what_stands_in_the_way(uuids: list[str], engine: EngineInfo, told: list[str]) -> None:
    found = advice(uuids, engine)
    assert len(found) == len(told)
    for words, part in zip(found, told, strict=True):
        assert part in words
        assert "; " in words  # the next step


def test_no_container_that_runs_is_updated() -> None:
    """Some engines write all its device rules anew then, without those that NVIDIA's hook has added."""
    call = re.compile(r"\bupdate_container\(|/containers/[^\n]*/update")
    sources = list(Path(appliance.__file__).parent.rglob("*.py"))
    assert sources
    assert not [path for path in sources if call.search(path.read_text())]
