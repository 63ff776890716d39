from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.host_config import create_document
from appliance.engine.labels import GPUS
from appliance.engine.types import ContainerSpec, Mount

SPEC = ContainerSpec(name="appliance-00000000-run-w.1-a", image="appliance/base", labels={"dev.appliance.kind": "run"})


def document(spec: ContainerSpec) -> dict[str, Any]:
    return create_document(spec, network="appliance-00000000", gateway="172.19.0.1")


def test_what_every_container_has() -> None:
    made = document(SPEC)
    assert made["Image"] == "appliance/base"
    assert made["Labels"] == {"dev.appliance.kind": "run"}
    assert made["HostConfig"] == {
        "Init": True,
        "NetworkMode": "appliance-00000000",
        "ExtraHosts": ["host.docker.internal:172.19.0.1"],
        "PortBindings": {},
        "Mounts": [],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "100m", "max-file": "3"}},
        "RestartPolicy": {"Name": "no"},
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": 16384,
    }


def test_the_image_decides_what_the_spec_leaves_open() -> None:
    assert not {"Entrypoint", "Cmd", "WorkingDir", "User", "StopSignal"} & set(document(SPEC))


def test_the_spec_decides_what_it_names() -> None:
    spec = replace(
        SPEC, entrypoint=["/bin/sh"], command=[], workdir="/notebooks", user="1000:1000", stop_signal="SIGINT"
    )
    made = document(spec)
    assert made["Entrypoint"] == ["/bin/sh"]
    assert made["Cmd"] == []
    assert (made["WorkingDir"], made["User"], made["StopSignal"]) == ("/notebooks", "1000:1000", "SIGINT")


def test_ports_are_published_on_loopback_only() -> None:
    made = document(replace(SPEC, publish=[8888, 9000]))
    assert made["ExposedPorts"] == {"8888/tcp": {}, "9000/tcp": {}}
    assert made["HostConfig"]["PortBindings"] == {
        "8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
        "9000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
    }


def test_mounts_are_binds_whose_source_is_not_created() -> None:
    made = document(replace(SPEC, mounts=[Mount(Path("/volumes/a b"), "/inputs/a", read_only=True)]))
    assert made["HostConfig"]["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/volumes/a b",
            "Target": "/inputs/a",
            "ReadOnly": True,
            "BindOptions": {"Propagation": "rprivate"},
        }
    ]
    assert "Binds" not in made["HostConfig"]


def test_limits() -> None:
    host = document(replace(SPEC, shm_bytes=1 << 30, memory_bytes=2 << 30, cpus=1.5))["HostConfig"]
    assert host["ShmSize"] == 1 << 30
    assert host["Memory"] == host["MemorySwap"] == 2 << 30
    assert host["NanoCpus"] == 1_500_000_000


def test_without_gpus_none_is_visible_whatever_the_spec_says() -> None:
    made = document(replace(SPEC, env={"NVIDIA_VISIBLE_DEVICES": "all", "A": "1=2\n3"}))
    assert made["Env"] == ["NVIDIA_VISIBLE_DEVICES=void", "A=1=2\n3"]
    assert "DeviceRequests" not in made["HostConfig"]


def test_gpus_are_asked_for_by_uuid_and_no_variable_says_otherwise() -> None:
    env = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "all", "CUDA_VISIBLE_DEVICES": "7", "A": "b"}
    made = document(replace(SPEC, gpus=["GPU-1", "GPU-2"], env=env))
    assert made["Env"] == [
        "NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-2",
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "CUDA_VISIBLE_DEVICES",  # without a value: the image's own is taken away too
        "A=b",
    ]
    assert made["HostConfig"]["DeviceRequests"] == [
        {"Driver": "nvidia", "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu", "compute", "utility"]]}
    ]


def test_its_label_tells_which_gpus_it_was_made_with() -> None:
    assert document(replace(SPEC, gpus=["GPU-1", "GPU-2"]))["Labels"][GPUS] == "GPU-1,GPU-2"
    assert GPUS not in document(SPEC)["Labels"]


def test_without_a_gateway_no_host_name_is_promised() -> None:
    assert create_document(SPEC, network="n", gateway="")["HostConfig"]["ExtraHosts"] == []


@given(st.dictionaries(st.text(st.characters(exclude_characters="=\0"), min_size=1), st.text()))
def test_every_variable_is_passed_once(env: dict[str, str]) -> None:
    made = document(replace(SPEC, env=env))
    assert dict(entry.partition("=")[::2] for entry in made["Env"]) == {**env, "NVIDIA_VISIBLE_DEVICES": "void"}
    assert len(made["Env"]) == len(set(env) | {"NVIDIA_VISIBLE_DEVICES"})
