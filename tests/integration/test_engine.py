"""The engine room against a real Docker engine."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from appliance.engine.accounts import Account
from appliance.engine.docker import Engine
from appliance.engine.labels import Owner
from appliance.engine.limits import UNLIMITED, Limit, allowed
from appliance.engine.types import Container, ContainerSpec, EngineEvent, Mount
from appliance.errors import Conflict, EngineDown, EngineError, ImageNotFound, NotFound
from tests.support.docker import clear

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

WITHIN_S = 180


def spec(engine: Engine, script: str = "sleep 600", *, part: str = "a", image: str = "appliance/base") -> ContainerSpec:
    owner = Owner(engine.instance, "run", "w.1", "u1", part=part)
    return ContainerSpec(
        name=f"appliance-{engine.instance}-run-w.1-{part}",
        image=image,
        labels=owner.to_labels(),
        command=["sh", "-c", script],
    )


async def running(engine: Engine, wanted: ContainerSpec) -> Container:
    made = await engine.create(wanted)
    await engine.start(made.id)
    found = await engine.inspect(made.id)
    assert found is not None
    return found


async def ended(engine: Engine, container_id: str) -> Container:
    async with asyncio.timeout(WITHIN_S):
        return await engine.wait(container_id)


async def said(engine: Engine, container_id: str, words: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while words not in await engine.logs_tail(container_id, 100):  # noqa: ASYNC110 - the engine tells nobody
            await asyncio.sleep(0.1)


async def answered(port: int) -> bytes:
    """What the web server on that port says, as soon as it answers."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
            except OSError:
                answer = b""
            if answer.startswith(b"HTTP/1.0 200"):
                return answer
            await asyncio.sleep(0.1)


async def test_the_engine_tells_what_it_is(engine: Engine, docker_engine: str) -> None:
    info = await engine.connect()
    assert info.version == docker_engine
    assert info.root.is_absolute()
    assert info.cpus >= 1
    assert info.cgroup_version in ("1", "2")


async def test_a_container_lives_from_create_to_remove(engine: Engine, base_image: str) -> None:
    made = await engine.create(spec(engine, "echo out; echo err >&2; exit 3"))
    assert (made.state, made.exit_code, made.started) == ("created", None, None)
    await engine.start(made.id)
    done = await ended(engine, made.id)
    assert (done.state, done.exit_code, done.oom_killed) == ("exited", 3, False)
    assert done.started is not None
    assert done.finished is not None
    assert done.started <= done.finished + 1, "Docker notes a start when the program runs already"
    assert done.log_path is not None
    assert sorted((await engine.logs_tail(made.id, 10)).split()) == ["err", "out"]
    await engine.remove(made.id)
    assert await engine.inspect(made.id) is None
    assert await engine.list() == []


async def test_create_is_idempotent_by_name(engine: Engine, base_image: str) -> None:
    first, *others = await asyncio.gather(*(engine.create(spec(engine)) for _ in range(4)))
    assert {other.id for other in others} == {first.id}


async def test_a_second_start_is_fine(engine: Engine, base_image: str) -> None:
    found = await running(engine, spec(engine))
    await engine.start(found.id)
    assert (await engine.inspect(found.id)) == found


async def test_ending_something_twice_is_fine(engine: Engine, base_image: str) -> None:
    found = await running(engine, spec(engine, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"))
    await said(engine, found.id, "ready")
    await engine.stop(found.id, grace_s=30)
    assert (await ended(engine, found.id)).exit_code == 7
    await engine.stop(found.id, grace_s=1)
    await engine.kill(found.id)
    await asyncio.gather(*(engine.remove(found.id) for _ in range(3)))
    await engine.remove(found.id)
    await engine.stop(found.id, grace_s=1)


async def test_who_ignores_the_polite_stop_is_killed(engine: Engine, base_image: str) -> None:
    found = await running(engine, spec(engine, "trap '' TERM; echo ready; while :; do sleep 1; done"))
    await said(engine, found.id, "ready")
    await engine.stop(found.id, grace_s=1)
    assert (await ended(engine, found.id)).exit_code == 137


async def test_a_name_that_belongs_to_another_appliance_is_a_conflict(engine: Engine, base_image: str) -> None:
    stranger = Engine(instance="ffffffff" if engine.instance != "ffffffff" else "eeeeeeee", network=engine.network)
    await engine.create(spec(engine))
    with pytest.raises(Conflict, match="another program or appliance"):
        await stranger.create(replace(spec(stranger), name=spec(engine).name))
    assert await stranger.list() == []
    await stranger.close()


async def test_only_what_is_asked_for_is_listed(engine: Engine, base_image: str) -> None:
    await engine.create(spec(engine, part="a"))
    found = await running(engine, replace(spec(engine, part="b"), publish=[80]))
    other = Owner(engine.instance, "notebook", "n", "u2")
    await engine.create(replace(spec(engine), name=f"{spec(engine).name}-other", labels=other.to_labels()))
    assert len(await engine.list()) == 3
    assert {item.labels["dev.appliance.part"] for item in await engine.list(kind="run", uid="u1")} == {"a", "b"}
    assert [item.name for item in await engine.list(name="n")] == [f"{spec(engine).name}-other"]
    assert await engine.list(kind="run", uid="u2") == []
    listed = next(item for item in await engine.list(kind="run") if item.id == found.id)
    assert (listed.name, listed.state, listed.ports) == (found.name, "running", found.ports)


async def test_a_port_is_published_on_loopback(engine: Engine, base_image: str) -> None:
    server = "from http.server import *; HTTPServer(('', 80), SimpleHTTPRequestHandler).serve_forever()"
    wanted = replace(spec(engine), command=["python3", "-c", server], publish=[80], workdir="/etc/ssl")
    found = await running(engine, wanted)
    assert set(found.ports) == {80}
    assert b"certs/" in await answered(found.ports[80])
    await engine.stop(found.id, grace_s=0)
    stopped = await engine.inspect(found.id)
    assert stopped is not None
    assert stopped.ports == {}


async def test_the_host_is_known_by_name_and_no_gpu_is_seen(engine: Engine, base_image: str) -> None:
    gateway = await engine.ensure_network()
    assert await engine.ensure_network() == gateway
    found = await running(engine, spec(engine))
    code, output = await engine.exec(found.id, ["sh", "-c", "getent hosts host.docker.internal; env"])
    assert code == 0
    assert output.decode().startswith(gateway)
    assert b"NVIDIA_VISIBLE_DEVICES=void" in output


async def test_containers_do_not_reach_each_other(engine: Engine, base_image: str) -> None:
    server = "from http.server import *; HTTPServer(('', 80), SimpleHTTPRequestHandler).serve_forever()"
    served = await running(engine, replace(spec(engine), command=["python3", "-c", server], publish=[80]))
    client = await running(engine, spec(engine, part="client"))
    _, address = await engine.exec(served.id, ["hostname", "-i"])
    try_it = f"import socket; socket.create_connection(('{address.decode().strip()}', 80), timeout=2)"
    await answered(served.ports[80])
    code, output = await engine.exec(client.id, ["python3", "-c", try_it])
    assert code != 0
    assert b"timed out" in output or b"unreachable" in output or b"refused" in output


async def test_a_network_that_was_pruned_comes_back(engine: Engine, base_image: str) -> None:
    made = await engine.create(spec(engine))
    await engine.client.call(lambda api: api.remove_network(engine.network))
    await engine.start(made.id)
    found = await engine.inspect(made.id)
    assert found is not None
    assert found.state == "running"


async def test_of_two_networks_made_at_once_one_is_left(engine: Engine, base_image: str) -> None:
    await engine.ensure_network()
    (first,) = await engine.client.call(lambda api: api.networks(names=[engine.network]))
    labels = first["Labels"]
    await engine.client.call(lambda api: api.create_network(engine.network, labels=labels, check_duplicate=False))
    await engine.ensure_network()
    left = await engine.client.call(lambda api: api.networks(names=[engine.network]))
    assert [network["Id"] for network in left] == [first["Id"]]
    assert (await running(engine, spec(engine))).state == "running"


async def test_mounts_are_what_they_say(engine: Engine, base_image: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "data").write_text("data")
    mounts = [Mount(tmp_path / "in", "/in", read_only=True), Mount(tmp_path / "out", "/out")]
    found = await running(engine, replace(spec(engine, "cp /in/data /out/data && ! touch /in/x"), mounts=mounts))
    assert (await ended(engine, found.id)).exit_code == 0
    assert (tmp_path / "out" / "data").read_text() == "data"


async def test_limits_are_raised_as_far_as_this_machine_lets_the_engine(engine: Engine, base_image: str) -> None:
    wanted = [
        Limit("memlock", UNLIMITED, UNLIMITED),
        Limit("stack", 64 << 20, UNLIMITED),
        Limit("nofile", 1 << 20, 1 << 20),
    ]
    granted = allowed(wanted)
    script = "ulimit -S -s; ulimit -H -s; ulimit -l; ulimit -n"
    made = await engine.create(replace(spec(engine, script), limits=granted))
    await engine.start(made.id)
    await engine.wait(made.id)
    stack, hard, locked, files = (await engine.logs_tail(made.id, 10)).split()
    assert [stack, hard] == [str(64 << 10), "unlimited"]
    if granted == wanted:
        assert [locked, files] == ["unlimited", str(1 << 20)]


async def test_a_user_that_the_image_does_not_know_gets_a_name(engine: Engine, base_image: str) -> None:
    account = Account(4711, 4712, "somebody", "/tmp")
    made = await engine.create(replace(spec(engine, "id; echo $HOME; grep -c root /etc/passwd"), user="4711:4712"))
    for _ in range(2):
        await engine.name_user(made.id, account)
    await engine.name_user(made.id, Account(0, 0, "other", "/"))
    await engine.start(made.id)
    await engine.wait(made.id)
    who, home, count = (await engine.logs_tail(made.id, 10)).splitlines()
    assert who == "uid=4711(somebody) gid=4712(somebody) groups=4712(somebody)"
    assert home == "/tmp"
    assert count == "1"


async def test_a_missing_mount_source_is_refused_and_not_made(engine: Engine, base_image: str, tmp_path: Path) -> None:
    wanted = replace(spec(engine), mounts=[Mount(tmp_path / "gone", "/in")])
    with pytest.raises(EngineError, match="source path does not exist") as caught:
        await engine.create(wanted)
    assert "missing" in caught.value.hint
    assert not (tmp_path / "gone").exists()


async def test_a_container_that_needs_too_much_memory_says_so(engine: Engine, base_image: str) -> None:
    eat = ["python3", "-c", "x = b'x' * (400 * 2**20)"]
    found = await running(engine, replace(spec(engine), command=eat, memory_bytes=64 * 2**20))
    done = await ended(engine, found.id)
    assert (done.exit_code, done.oom_killed) == (137, True)


async def test_what_cannot_start_is_told_in_the_engines_words(engine: Engine, base_image: str) -> None:
    made = await engine.create(replace(spec(engine), user="nobody-of-that-name"))
    with pytest.raises(EngineError, match="nobody-of-that-name") as caught:
        await engine.start(made.id)
    assert caught.value.hint
    found = await engine.inspect(made.id)
    assert found is not None
    assert found.started is None
    assert "nobody-of-that-name" in found.error


async def test_a_command_that_does_not_exist_ends_with_127_and_says_why(engine: Engine, base_image: str) -> None:
    found = await running(engine, replace(spec(engine), entrypoint=["/nope"]))
    assert (await ended(engine, found.id)).exit_code == 127
    assert "/nope" in await engine.logs_tail(found.id, 10)


async def test_an_image_that_is_not_here(engine: Engine, docker_engine: str) -> None:
    with pytest.raises(ImageNotFound):
        await engine.create(spec(engine, image="appliance-no/such-image:1"))


async def test_a_job_gains_no_privileges(engine: Engine, base_image: str) -> None:
    found = await running(engine, spec(engine, "grep NoNewPrivs /proc/1/status; cat /proc/1/comm; sleep 600"))
    _, output = await engine.exec(found.id, ["cat", "/proc/1/status"])
    assert b"NoNewPrivs:\t1" in output
    _, name = await engine.exec(found.id, ["cat", "/proc/1/comm"])
    assert name.strip() in (b"docker-init", b"tini")


async def test_exec_has_an_exit_code_variables_and_a_deadline(engine: Engine, base_image: str) -> None:
    found = await running(engine, spec(engine))
    code, output = await engine.exec(found.id, ["sh", "-c", "echo $A; exit 4"], env={"A": "b c"})
    assert (code, output) == (4, b"b c\n")
    assert (await engine.exec(found.id, ["sh", "-c", "head -c 3000000 /dev/zero"]))[1] == bytes(3_000_000)
    with pytest.raises(EngineError, match="did not end within"):
        await engine.exec(found.id, ["sleep", "61"], timeout_s=0.5)
    processes = await engine.client.call(lambda api: api.top(found.id))
    assert not [row for row in processes["Processes"] if "sleep 61" in " ".join(row)]
    with pytest.raises((EngineError, NotFound, Conflict)):
        await engine.exec("0" * 64, ["true"])


async def test_waiting_may_be_cancelled_at_once(engine: Engine, base_image: str) -> None:
    found = await running(engine, spec(engine))
    task = asyncio.create_task(engine.wait(found.id))
    await asyncio.sleep(0.2)
    begun = asyncio.get_running_loop().time()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert asyncio.get_running_loop().time() - begun < 60, "it would be waited for until it ends"


async def test_waiting_for_what_is_removed_ends(engine: Engine, base_image: str) -> None:
    found = await running(engine, spec(engine))
    task = asyncio.create_task(ended(engine, found.id))
    await asyncio.sleep(0.2)
    await engine.remove(found.id)
    with pytest.raises(NotFound):
        await task


async def test_events_tell_of_this_appliance_only(engine: Engine, base_image: str) -> None:
    events = engine.events()
    other = Engine(instance="0" * 8 if engine.instance != "0" * 8 else "1" * 8, network=engine.network)
    await engine.ensure_network()
    strange = await other.create(replace(spec(other), name=f"{spec(engine).name}-strange"))
    await other.remove(strange.id)
    await other.close()
    made = await engine.create(spec(engine, "exit 5"))
    await engine.start(made.id)
    await ended(engine, made.id)
    await engine.remove(made.id)
    found = await until_action(events, "destroy")
    assert [event.action for event in found] == ["create", "start", "die", "destroy"]
    assert {event.container_id for event in found} == {made.id}
    assert [event.exit_code for event in found] == [None, None, 5, None]
    assert found[2].labels["dev.appliance.part"] == "a"
    await events.aclose()  # type: ignore[attr-defined]


async def until_action(events: AsyncIterator[EngineEvent], action: str) -> list[EngineEvent]:
    found: list[EngineEvent] = []
    async with asyncio.timeout(WITHIN_S):
        async for event in events:
            found.append(event)
            if event.action == action:
                break
    return found


class PrivateEngine:
    """A dockerd of the test's own, which it may end and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.host = f"unix://{folder}/s"

    def start(self) -> None:
        places = [f"--data-root={self._folder}/data", f"--exec-root={self._folder}/exec"]
        places += [f"--pidfile={self._folder}/pid", f"--host={self.host}"]
        alone = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]
        log = (self._folder / "log").open("ab")
        # In a network of its own: without a bridge it would take the machine's docker0 away from the real engine.
        self._process = subprocess.Popen(["unshare", "--net", "dockerd", *places, *alone], stdout=log, stderr=log)
        log.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(WITHIN_S)


@contextmanager
def private_engine() -> Iterator[PrivateEngine]:
    folder = Path(tempfile.mkdtemp(prefix="apl-"))  # short: a socket's path has 107 characters
    private = PrivateEngine(folder)
    try:
        private.start()
        yield private
    finally:
        private.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("dockerd") is None, reason="needs root and dockerd")
# docker-py leaves the socket of a connection attempt open that failed because the engine had just ended.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_engine_restart_is_survived() -> None:
    with private_engine() as private:
        engine = Engine(instance="5e5e5e5e", docker_host=private.host)
        await up(engine)
        await engine.client.call(lambda api: api.import_image(_tiny_tar(), repository="tiny", tag="1"))
        events = engine.events()
        owner = Owner(engine.instance, "run", "w.1", "u1")
        wanted = ContainerSpec(name="tiny", image="tiny:1", labels=owner.to_labels(), command=["/x"])
        made = await engine.create(wanted)
        await until_action(events, "create")
        await asyncio.to_thread(private.stop)
        with pytest.raises(EngineDown):
            await engine.connect()
        private.start()
        await up(engine)
        assert [event.action for event in await until_action(events, "resync")] == ["lost", "resync"]
        assert (await engine.create(wanted)).id == made.id
        await engine.remove(made.id)
        assert [event.action for event in await until_action(events, "destroy")] == ["destroy"]
        await events.aclose()  # type: ignore[attr-defined]
        await clear(engine)
        await engine.close()


async def up(engine: Engine) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                await engine.connect()
                return
            except EngineDown:
                await asyncio.sleep(0.2)


def _tiny_tar() -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    buffer.seek(0)
    return buffer


def test_docker_py_is_the_one_the_engine_room_was_written_for() -> None:
    # The engine room closes streams through the object that docker-py hands out for them.
    assert hasattr(docker.types.CancellableStream, "close")
