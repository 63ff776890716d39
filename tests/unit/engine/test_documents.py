from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine import documents

ZERO = "0001-01-01T00:00:00Z"


def inspected(**state: Any) -> dict[str, Any]:
    return {
        "Id": "c1",
        "Name": "/appliance-1-run-w.1-a",
        "Image": "sha256:aa",
        "Config": {"Image": "appliance/base", "Labels": {"a": "b"}},
        "State": {"Status": "running", "StartedAt": "2026-11-22T20:00:00.5Z", "FinishedAt": ZERO, "ExitCode": 0}
        | state,
        "LogPath": "/var/lib/docker/containers/c1/c1-json.log",
        "NetworkSettings": {
            "Ports": {
                "8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}],
                "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "32769"}],
                "9000/tcp": None,
                "9001/tcp": [{"HostIp": "0.0.0.0", "HostPort": "9001"}],
            }
        },
    }


def test_a_running_container() -> None:
    found = documents.container_from_inspect(inspected())
    assert found.name == "appliance-1-run-w.1-a"
    assert (found.image, found.image_id, found.labels) == ("appliance/base", "sha256:aa", {"a": "b"})
    assert (found.state, found.exit_code, found.finished) == ("running", None, None)
    assert found.started == datetime(2026, 11, 22, 20, tzinfo=UTC).timestamp() + 0.5
    assert found.ports == {8888: 32768}
    assert found.log_path == Path("/var/lib/docker/containers/c1/c1-json.log")


def test_one_that_was_killed_for_memory() -> None:
    state = {"Status": "exited", "ExitCode": 137, "OOMKilled": True, "FinishedAt": "2026-11-22T20:00:01.000000001Z"}
    found = documents.container_from_inspect(inspected(**state))
    assert (found.exit_code, found.oom_killed) == (137, True)
    assert found.finished is not None
    assert found.started is not None
    assert 0.4 < found.finished - found.started < 0.6


def test_one_that_could_not_start() -> None:
    state = {"Status": "created", "ExitCode": 127, "Error": "no such file", "StartedAt": ZERO}
    found = documents.container_from_inspect(inspected(**state))
    assert (found.state, found.exit_code, found.error, found.started) == ("created", None, "no such file", None)


def test_a_container_with_another_log_driver_and_nothing_else() -> None:
    found = documents.container_from_inspect({"Id": "c1", "LogPath": "", "Config": None, "State": {}})
    assert (found.log_path, found.ports, found.labels, found.state) == (None, {}, {}, "")


@pytest.mark.parametrize(
    ("state", "status", "exit_code"),
    [
        ("running", "Up 2 minutes", None),
        ("exited", "Exited (3) 5 minutes ago", 3),
        ("exited", "Exited (137) 5 seconds ago", 137),
        ("created", "Created", None),
        ("dead", "Dead", None),
    ],
)
def test_a_summary_tells_the_exit_code_in_its_status(state: str, status: str, exit_code: int | None) -> None:
    found = documents.container_from_summary({"Id": "c1", "State": state, "Status": status})
    assert (found.state, found.exit_code) == (state, exit_code)


def test_a_summary_has_links_and_foreign_ports() -> None:
    found = documents.container_from_summary(
        {
            "Id": "c1",
            "Names": ["/other/alias", "/mine"],
            "State": "running",
            "Ports": [
                {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 32768, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 40000, "Type": "tcp"},
                {"PrivatePort": 81, "Type": "tcp"},
            ],
        }
    )
    assert (found.name, found.ports) == ("mine", {80: 32768})


def test_an_event() -> None:
    found = documents.event(
        {
            "Action": "die",
            "timeNano": 1_795_378_374_000_000_001,
            "Actor": {"ID": "c1", "Attributes": {"exitCode": "3", "image": "i", "name": "n", "dev.appliance.uid": "u"}},
        }
    )
    assert (found.action, found.container_id, found.exit_code) == ("die", "c1", 3)
    assert found.labels == {"dev.appliance.uid": "u"}
    assert found.at == pytest.approx(1_795_378_374)


def test_an_event_with_a_detail_in_its_action() -> None:
    found = documents.event(
        {"Action": "health_status: unhealthy", "time": 5, "Actor": {"ID": "c1", "Attributes": None}}
    )
    assert (found.action, found.at, found.exit_code) == ("health_status", 5.0, None)


def test_an_image() -> None:
    config: dict[str, Any] = {
        "Env": ["PATH=/bin:/usr/bin", "EMPTY=", "A=b=c"],
        "Cmd": ["bash"],
        "Entrypoint": None,
        "ExposedPorts": {"8888/tcp": {}, "53/udp": {}, "80/tcp": {}},
    }
    found = documents.image({"Id": "sha256:1", "Config": config, "Size": 7})
    assert found.env == {"PATH": "/bin:/usr/bin", "EMPTY": "", "A": "b=c"}
    assert (found.entrypoint, found.command, found.ports, found.size_bytes) == ((), ("bash",), (80, 8888), 7)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"Runtimes": {"runc": {}}}, False),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, True),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, True),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.com/net=0"}]}, False),
        ({"DiscoveredDevices": None, "CDISpecDirs": ["/etc/cdi"], "Runtimes": None}, False),
    ],
)
def test_whether_there_is_a_gpu_runtime(info: dict[str, Any], expected: bool) -> None:
    assert documents.info(info, {"Version": "28.2", "ApiVersion": "1.50"}).gpu_runtime is expected


def test_what_cdi_names() -> None:
    found = documents.info(
        {
            "CDISpecDirs": ["/etc/cdi"],
            "DiscoveredDevices": [
                {"Source": "cdi", "ID": "nvidia.com/gpu=GPU-1"},
                {"Source": "other", "ID": "nvidia.com/gpu=GPU-2"},
                {},
            ],
        },
        {},
    )
    assert (found.cdi, set(found.cdi_devices), found.nvidia_runtime) == (True, {"nvidia.com/gpu=GPU-1"}, False)
    assert documents.info({"CDISpecDirs": []}, {}).cdi is False


@given(
    st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001
    st.integers(min_value=0, max_value=999_999_999),
    st.sampled_from(["Z", "+00:00"]),
)
def test_times_to_the_microsecond_or_better(when: datetime, nanoseconds: int, zone: str) -> None:
    whole = when.replace(microsecond=0, tzinfo=UTC)
    text = f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}".rstrip("0").rstrip(".") + zone
    if whole.year < 1000:
        return
    assert documents.timestamp(text) == pytest.approx(whole.timestamp() + nanoseconds / 1e9, abs=1e-5)


@pytest.mark.parametrize("text", ["", None, ZERO])
def test_no_time(text: str | None) -> None:
    assert documents.timestamp(text) is None


def test_a_time_in_another_zone() -> None:
    assert documents.timestamp("2026-11-22T22:00:00.25+02:00") == documents.timestamp("2026-11-22T20:00:00.25Z")
