from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import RouterError
from appliance.router import process
from appliance.router.former import Former

pytestmark = pytest.mark.anyio
SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


def spawn(children: list[subprocess.Popen[bytes]], argv: list[str]) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(argv, stdout=subprocess.PIPE)
    children.append(child)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    return child


def program(path: Path, says: str, status: int = 0) -> str:
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("says", "lua"),
    [
        ("HAProxy version 2.6.12\nFeature list : -51DEGREES +LUA +MATH", True),
        ("HAProxy version 2.6.12\nFeature list : -51DEGREES -LUA +MATH", False),
        ("HAProxy version 2.6.12\nBuilt with +LUA in mind\nFeature list : +LUAX", False),
        ("", False),
    ],
)
async def test_whether_it_has_lua(tmp_path: Path, says: str, lua: bool) -> None:
    assert await process.has_lua(program(tmp_path / "p", says)) is lua


def test_a_missing_program_tells_the_next_step() -> None:
    with pytest.raises(RouterError, match="not installed") as caught:
        process.find("/nowhere/haproxy")
    assert "install HAProxy" in caught.value.hint


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12"),
        ("HAProxy version 3.2-dev1-abc 2025/01/01", "3.2"),
        ("HA-Proxy version 2.10.1 2020/01/01", "2.10.1"),
    ],
)
async def test_the_version_is_read(tmp_path: Path, says: str, version: str) -> None:
    assert await process.version(program(tmp_path / "p", says)) == version


@pytest.mark.parametrize(
    ("says", "message"),
    [("HA-Proxy version 2.2.9-2+deb11u6 2023/12/09", "2.2 is too old"), ("nginx version: nginx/1.22.1", "not say")],
)
async def test_an_old_or_wrong_program_is_refused(tmp_path: Path, says: str, message: str) -> None:
    with pytest.raises(RouterError, match=message):
        await process.version(program(tmp_path / "p", says))


async def test_the_programs_words_are_in_the_error(tmp_path: Path) -> None:
    says = (
        "[NOTICE]   (29446) : haproxy version is 2.6.12-1+deb12u4\n"
        "[ALERT]    (29446) : config : parsing [x.cfg:23] : unknown keyword 'pool'\n"
        "[ALERT]    (29446) : config : Fatal errors found in configuration."
    )
    with pytest.raises(RouterError, match="unknown keyword 'pool'; config : Fatal errors") as caught:
        await process.check(program(tmp_path / "p", says, 1), tmp_path / "x.cfg")
    assert "NOTICE" not in caught.value.message


async def test_secrets_of_the_daemon_do_not_reach_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hunter2")
    script = tmp_path / "p"
    script.write_text("#!/bin/sh\nenv\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(RouterError) as caught:
        await process.check(str(script), tmp_path / "x.cfg")
    assert "hunter2" not in caught.value.message


async def test_the_end_of_a_process_is_noticed(children: list[subprocess.Popen[bytes]]) -> None:
    child = spawn(children, SLEEP)
    assert not await process.ended(child.pid, timeout_s=0.01)
    child.send_signal(signal.SIGKILL)
    assert await process.ended(child.pid, timeout_s=60)
    assert not process.alive(child.pid), "a zombie does not live"
    child.wait()
    assert await process.ended(child.pid, timeout_s=0)


async def test_one_that_does_not_listen_to_the_polite_signal_is_killed(children: list[subprocess.Popen[bytes]]) -> None:
    polite, deaf = spawn(children, SLEEP), spawn(children, DEAF)
    await process.end([polite.pid], grace_s=60)
    await process.end([polite.pid, deaf.pid], grace_s=0.2)
    assert (polite.wait(), deaf.wait()) == (-signal.SIGTERM, -signal.SIGKILL)


async def test_a_process_is_known_by_its_configuration(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    config = tmp_path / "haproxy.cfg"
    child = spawn(children, [*SLEEP, "-D", "-f", str(config)])
    spawn(children, [*SLEEP, "-D", "-f", str(config) + ".other"])
    assert process.running(config) == [child.pid]


async def test_a_replaced_process_counts_until_it_is_gone(children: list[subprocess.Popen[bytes]]) -> None:
    child = spawn(children, SLEEP)
    former = Former()
    former.add([child.pid], {"x": 9}, now=100.0)
    assert former.uses("x", None, now=101.0), "an idle client of it may still come"
    assert not former.uses("other", None, now=101.0)
    assert not former.uses("x", None, now=1000.0)
    child.kill()
    child.wait()
    assert not former.uses("x", None, now=101.0)
