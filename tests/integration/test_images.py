"""Images for real: pulled from a registry of the test's own, and built from the recipes and from small ones."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx2
import pytest
import websockets

from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import Owner
from appliance.engine.recipes.bootstrap import bootstrap
from appliance.engine.recipes.build import Builder
from appliance.engine.recipes.notebook import NOTEBOOK
from appliance.engine.recipes.recipe import RECIPE_LABEL, Recipe
from appliance.engine.types import Container, ContainerSpec
from appliance.errors import EngineError, ImageNotFound
from tests.support.docker import BASE_IMAGE
from tests.support.registry import registry

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.images]

WITHIN_S = 120
SECRET = "hunter2-in-a-url"


@pytest.fixture
def images(engine: Engine, tmp_path: Path) -> Images:
    return Images(engine, base_image=BASE_IMAGE, work_dir=tmp_path / "work")


@pytest.fixture
def builder(engine: Engine, tmp_path: Path) -> Builder:
    return Builder(engine.client, instance=engine.instance, base_image=BASE_IMAGE, scratch=tmp_path / "work")


@pytest.fixture
async def recipe(engine: Engine) -> AsyncIterator[Recipe]:
    """A recipe that is made in seconds, under a name of the test's own."""
    ref = f"appliance-test-{engine.instance}/small:latest"
    yield Recipe(ref=ref, files={"/etc/appliance-test": "here\n"}, env={"A": "b"}, check=("true",))
    await forget(engine, ref)


async def forget(engine: Engine, ref: str) -> None:
    def work(api: docker.APIClient) -> None:
        try:
            api.remove_image(ref, force=True)
        except docker.errors.ImageNotFound:
            return

    await engine.client.call(work)


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await holds():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.1)


# From a registry


async def test_an_image_is_pulled_once_and_then_here(engine: Engine, images: Images) -> None:
    lines: list[str] = []
    with registry(salt=engine.instance) as remote:
        assert (await images.inspect(remote.ref), await images.identity(remote.ref)) == (None, "")
        first, second = await asyncio.gather(images.ensure(remote.ref, lines.append), images.ensure(remote.ref))
        assert first == second
        found = await images.inspect(remote.ref)
        assert found is not None
        assert (found.id, found.command, found.env, found.ports) == (first, ("/bin/x",), {"A": "b"}, (8000,))
        assert lines
        assert all(remote.ref in line for line in lines)
        assert await images.ensure(remote.ref) == first == await images.identity(remote.ref)
        assert remote.pulls == 1
        await forget(engine, remote.ref)


async def test_an_unknown_tag_is_told(images: Images) -> None:
    with registry() as remote, pytest.raises(ImageNotFound) as caught:
        await images.ensure(remote.ref + "-no")
    assert "tag" in caught.value.hint


async def test_a_registry_that_does_not_answer_is_told(images: Images) -> None:
    with registry() as remote:
        gone = remote.ref
    with pytest.raises(ImageNotFound) as caught:
        await images.ensure(gone)
    assert "cannot be reached" in caught.value.hint


# Small recipes


async def test_a_recipe_becomes_an_image(
    engine: Engine, images: Images, builder: Builder, recipe: Recipe, base_image: str, tmp_path: Path
) -> None:
    made = await builder.from_parent(recipe, base_image, "d1", print)
    found = await images.inspect(recipe.ref)
    assert found is not None
    assert found.id == made
    assert found.labels == {RECIPE_LABEL: "d1"}
    assert (found.env["A"], found.command) == ("b", ("bash",))
    assert await output(engine, recipe.ref, "cat /etc/appliance-test; ls -A /mnt /tmp") == "here\n/mnt:\n\n/tmp:\n"
    assert await benches(engine) == []
    assert list((tmp_path / "work").iterdir()) == []


async def output(engine: Engine, image: str, script: str) -> str:
    owner = Owner(engine.instance, "run", "w.1", secrets.token_hex(4))
    name = f"appliance-{engine.instance}-run-{owner.uid}"
    made = await engine.create(ContainerSpec(name, image, owner.to_labels(), command=["sh", "-c", script]))
    await engine.start(made.id)
    async with asyncio.timeout(WITHIN_S):
        assert (await engine.wait(made.id)).exit_code == 0
    return await engine.logs_tail(made.id, 10_000)


async def benches(engine: Engine) -> list[str]:
    wanted = {"name": f"appliance-{engine.instance}-build-"}
    found = await engine.client.call(lambda api: api.containers(all=True, filters=wanted))
    return [container["Id"] for container in found]


def wheel(folder: Path) -> None:
    """A wheel of `tinypackage` 1.0, as small as they come."""
    folder.mkdir(parents=True)
    info = "tinypackage-1.0.dist-info"
    with zipfile.ZipFile(folder / "tinypackage-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tinypackage.py", "VALUE = 42\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinypackage\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose package settings are full of things that must not get into an image."""
    wheel(tmp_path / "wheels")
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    bundle = tmp_path / "corp.crt"
    bundle.write_bytes(Path("/etc/ssl/certs/ca-certificates.crt").read_bytes() + f"# {SECRET}\n".encode())
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine mirror.example login me password {SECRET}\n")
    netrc.chmod(0o600)
    conf = tmp_path / "pip.conf"
    conf.write_text(
        f"[global]\nindex-url = https://me:{SECRET}@mirror.example/simple\nno-index = true\n"
        f"find-links = {tmp_path}/wheels {tmp_path}/gone-{SECRET}\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(conf))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("no_proxy", f"{SECRET}.example")
    return tmp_path


async def test_packages_come_by_the_hosts_settings_and_nothing_of_those_stays(
    engine: Engine, builder: Builder, recipe: Recipe, base_image: str, host: Path
) -> None:
    recipe = replace(recipe, python=("tinypackage",), check=("python3", "-c", "import tinypackage"))
    await builder.from_parent(recipe, base_image, "d1", print)
    assert SECRET not in await told(engine, recipe.ref)
    saved = await asyncio.to_thread(_save, recipe.ref)
    assert b"tinypackage" in saved
    assert SECRET.encode() not in saved
    assert b"mirror.example" not in saved
    assert str(host).encode() not in saved


def _save(ref: str) -> bytes:
    return subprocess.run(["docker", "save", ref], capture_output=True, check=True).stdout


async def told(engine: Engine, ref: str) -> str:
    """All that the engine tells of an image and of how it was made."""

    def work(api: docker.APIClient) -> str:
        return json.dumps([api.inspect_image(ref), api.history(ref)])  # type: ignore[no-untyped-call]

    return await engine.client.call(work)


async def test_a_package_that_is_not_there_names_the_next_step(
    engine: Engine, images: Images, builder: Builder, recipe: Recipe, base_image: str, host: Path
) -> None:
    with pytest.raises(EngineError, match="appliance-no-such-package") as caught:
        await builder.from_parent(replace(recipe, python=("appliance-no-such-package",)), base_image, "d1", print)
    assert "pip config list" in caught.value.hint
    assert SECRET not in str(caught.value)
    assert await images.inspect(recipe.ref) is None
    assert await benches(engine) == []


async def test_an_image_that_fails_its_check_gets_no_name(
    images: Images, builder: Builder, recipe: Recipe, base_image: str
) -> None:
    with pytest.raises(EngineError, match="exit code 3:\nwhy"):
        await builder.from_parent(replace(recipe, check=("sh", "-c", "echo why; exit 3")), base_image, "d1", print)
    assert await images.inspect(recipe.ref) is None


async def test_a_cancelled_build_leaves_nothing(
    engine: Engine, images: Images, builder: Builder, recipe: Recipe, base_image: str, tmp_path: Path
) -> None:
    slow = replace(recipe, check=("sleep", "600"))
    task = asyncio.create_task(builder.from_parent(slow, base_image, "d1", print))
    await until(lambda: benches(engine))
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await benches(engine) == []
    assert await images.inspect(recipe.ref) is None
    assert list((tmp_path / "work").iterdir()) == []


async def test_the_bench_of_a_killed_build_makes_room(
    engine: Engine, builder: Builder, recipe: Recipe, base_image: str
) -> None:
    left = {"Image": base_image, "Cmd": ["sleep", "600"]}
    name = f"appliance-{engine.instance}-build-small"
    await engine.client.call(
        lambda api: api.start(api.create_container_from_config(left, name=name)["Id"])  # type: ignore[no-untyped-call]
    )
    assert await builder.from_parent(recipe, base_image, "d1", print)
    assert await benches(engine) == []


async def test_a_base_from_a_registry_gets_what_it_lacks(
    engine: Engine, images: Images, recipe: Recipe, base_image: str, tmp_path: Path
) -> None:
    mirrors = await output(engine, base_image, "apt-get -qq update >/dev/null 2>&1 && echo yes || echo no")
    if mirrors != "yes\n":
        pytest.skip("a container cannot reach this distribution's mirrors here")
    local = f"appliance-test-{engine.instance}/debian"
    await engine.client.call(lambda api: api.tag(base_image, local, "1"))
    try:
        builder = Builder(engine.client, instance=engine.instance, base_image=f"{local}:1", scratch=tmp_path / "work")
        lines: list[str] = []
        await builder.base(replace(recipe, packages=("file",), check=("file", "--version")), "d1", lines.append)
        assert any("adding file" in line for line in lines)
        found = await images.inspect(recipe.ref)
        assert found is not None
        assert found.labels == {RECIPE_LABEL: "d1"}
        assert (found.env["A"], found.command) == ("b", ("bash",))
        assert (await output(engine, recipe.ref, "ls /var/lib/apt/lists; file --version")).startswith("file-")
    finally:
        await forget(engine, f"{local}:1")


# From the distribution

needs_mmdebstrap = pytest.mark.skipif(
    shutil.which("mmdebstrap") is None or os.geteuid() != 0, reason="needs mmdebstrap and root"
)


HALF_A_SYSTEM = """#!/bin/sh
head -c 300000 /dev/zero
echo 'E: the disk is on fire' >&2
exit 3
"""


async def test_half_a_system_becomes_no_image(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker_engine: str
) -> None:
    monkeypatch.setattr("appliance.engine.recipes.bootstrap._suite", lambda: "suite")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stub = tmp_path / "mmdebstrap"
    stub.write_text(HALF_A_SYSTEM)
    stub.chmod(0o755)
    label = f"dev.appliance.test={engine.instance}"
    with pytest.raises(EngineError, match="exit code 3:\nE: the disk is on fire") as caught:
        await bootstrap(engine.client, ["bash"], [f"LABEL {label}"], scratch=tmp_path, progress=print)
    assert "apt-get update" in caught.value.hint
    assert await engine.client.call(lambda api: api.images(filters={"label": label})) == []


async def test_without_mmdebstrap_the_next_step_is_told(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.engine.recipes.bootstrap._suite", lambda: "suite")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError) as caught:
        await bootstrap(engine.client, [], [], scratch=tmp_path, progress=print)
    assert "apt-get install mmdebstrap" in caught.value.hint


BUILD = """
import asyncio, sys
from pathlib import Path
from appliance.engine.docker import Engine
from appliance.engine.recipes.bootstrap import bootstrap
engine = Engine(instance="0badcafe")
tell = lambda line: print(line, flush=True)
changes = ["LABEL dev.appliance.test=" + sys.argv[2]]
asyncio.run(bootstrap(engine.client, ["bash"], changes, scratch=Path(sys.argv[1]), progress=tell))
"""


@needs_mmdebstrap
async def test_a_build_dies_with_its_daemon(engine: Engine, tmp_path: Path) -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BUILD, str(tmp_path), engine.instance, stdout=asyncio.subprocess.PIPE
    )
    assert daemon.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        while b"extracting" not in (line := await daemon.stdout.readline()):
            assert line, "the build ended before it could be killed"
    daemon.send_signal(signal.SIGKILL)
    await daemon.wait()

    async def dead() -> bool:
        return not _processes_in(tmp_path)

    await until(dead)
    mine = {"label": f"dev.appliance.test={engine.instance}"}
    assert await engine.client.call(lambda api: api.images(filters=mine)) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def _processes_in(folder: Path) -> list[str]:
    """Processes that have the folder in their command line or work in it."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            told = (process / "cmdline").read_text() + str((process / "root").readlink())
        except OSError:
            continue
        if str(folder) in told:
            found.append(told)
    return found


# The built-in images


async def test_the_base_image_has_what_it_promises(engine: Engine, base_image: str) -> None:
    script = """
    set -e
    python3 -c 'import ssl, sqlite3; ssl.create_default_context().load_default_certs()'; python --version
    git --version; curl --version; bash --version; pip --version; ldconfig -p | grep libstdc++
    python3 -m venv /tmp/venv
    pip install --no-index --dry-run pip
    """
    assert "Python 3" in await output(engine, base_image, script)


LEFTOVERS = """
find /mnt /tmp /var/cache/appliance-build /root -mindepth 1 -not -name .bashrc -not -name .profile 2>/dev/null
find /var/lib/apt/lists /var/cache/apt -type f -size +0
find / -xdev \\( -name pip.conf -o -name uv.toml -o -name .netrc -o -name ca.crt \\) 2>/dev/null
find /etc/apt/apt.conf.d -name '*mmdebstrap'
find /usr/lib/python3* -name EXTERNALLY-MANAGED
ls /usr/local/share/ca-certificates
"""


async def test_nothing_of_the_build_is_left_in_the_images(engine: Engine, images: Images, notebook_image: str) -> None:
    assert (await output(engine, notebook_image, LEFTOVERS)).split() == []
    for ref in ("appliance/base", notebook_image):
        found = await images.inspect(ref)
        assert found is not None
        assert set(found.env) <= {"PATH", "LANG", "PYTHONUNBUFFERED", "PIP_ROOT_USER_ACTION", "SHELL"}
        assert set(found.labels) == {RECIPE_LABEL}
        assert "://" not in await told(engine, ref)


async def test_a_second_call_builds_nothing(images: Images, notebook_image: str) -> None:
    lines: list[str] = []
    found = await images.inspect(notebook_image)
    assert found is not None
    assert await images.ensure(notebook_image, lines.append) == found.id
    assert lines == []


async def test_the_notebook_image_is_of_a_reasonable_size(images: Images, notebook_image: str) -> None:
    found = await images.inspect(notebook_image)
    assert found is not None
    assert found.size_bytes < 1_100_000_000


class Jupyter:
    def __init__(self, container: Container, token: str) -> None:
        self.container = container
        self.address = f"127.0.0.1:{container.ports[8888]}"
        self.headers = {"Authorization": f"token {token}"}
        self.http = httpx2.AsyncClient(base_url=f"http://{self.address}", headers=self.headers, timeout=60)

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def answers(self) -> bool:
        try:
            return (await self.http.get("/api/status")).status_code == 200
        except httpx2.TransportError:
            return False


@asynccontextmanager
async def jupyter(engine: Engine, image: str) -> AsyncIterator[Jupyter]:
    token = secrets.token_hex(8)
    spec = ContainerSpec(
        name=f"appliance-{engine.instance}-notebook-n",
        image=image,
        labels=Owner(engine.instance, "notebook", "n", "u1").to_labels(),
        command=[*NOTEBOOK.command, f"--IdentityProvider.token={token}"],
        publish=[8888],
    )
    made = await engine.create(spec)
    await engine.start(made.id)
    found = await engine.inspect(made.id)
    assert found is not None
    server = Jupyter(found, token)
    try:
        await until(server.answers)
        yield server
    finally:
        await server.http.aclose()


async def test_jupyterlab_answers_and_asks_no_strangers(engine: Engine, notebook_image: str) -> None:
    async with jupyter(engine, notebook_image) as server:
        page = (await server.http.get("/lab")).text
        config = page.partition('id="jupyter-config-data" type="application/json">')[2]
        settings = json.loads(config.partition("</script>")[0])
        assert settings["news"] == {"disabled": True}
        assert settings["extensionManager"]["can_install"] is False
        assert settings["serverSideExecution"] is True
        extensions = {extension["name"] for extension in settings["federated_extensions"]}
        assert {"@datalayer/jupyter-server-nbmodel", "@jupyter/collaboration-extension"} <= extensions
        plugin = "@jupyterlab/apputils-extension:notification"
        defaults = await server.request("GET", f"/lab/api/settings/{plugin}")
        assert defaults["schema"]["properties"]["fetchNews"]["default"] == "false"


async def test_output_survives_a_closed_tab(engine: Engine, notebook_image: str) -> None:
    """The document is opened as a browser does it, a cell is started, and the browser goes away."""
    cell: dict[str, Any] = {
        "id": "c1",
        "cell_type": "code",
        "source": "",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    code = "import time\nfor i in range(4):\n    time.sleep(1)\n    print('line', i)"
    async with jupyter(engine, notebook_image) as server:
        await server.request("PUT", "/api/contents/a.ipynb", {"type": "notebook", "content": notebook})
        session = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "python3"}}
        kernel = (await server.request("POST", "/api/sessions", session))["kernel"]["id"]
        shared = await server.request(
            "PUT", "/api/collaboration/session/a.ipynb", {"format": "json", "type": "notebook"}
        )
        room = f"json:notebook:{shared['fileId']}"
        url = f"ws://{server.address}/api/collaboration/room/{room}?sessionId={shared['sessionId']}"
        async with websockets.connect(url, additional_headers=server.headers) as tab:
            async with asyncio.timeout(WITHIN_S):
                await tab.recv()
            metadata = {"document_id": room, "cell_id": "c1"}
            await server.request("POST", f"/api/kernels/{kernel}/execute", {"code": code, "metadata": metadata})

        async def written() -> bool:
            # Jupyter writes in place, so a read may find the file empty: that is answered with 400.
            answer = await server.http.get("/api/contents/a.ipynb")
            return answer.is_success and "line 3" in json.dumps(answer.json()["content"]["cells"][0]["outputs"])

        try:
            await until(written)
        except TimeoutError:
            content = (await server.http.get("/api/contents/a.ipynb")).text
            pytest.fail(f"{content}\n{await engine.logs_tail(server.container.id, 80)}")
        listing = await server.request("GET", "/api/contents/")
        assert [entry["name"] for entry in listing["content"]] == ["a.ipynb"]
        _, hidden = await engine.exec(server.container.id, ["ls", "-A", "/notebooks"])
        assert set(hidden.split()) <= {b"a.ipynb", b".ipynb_checkpoints"}
