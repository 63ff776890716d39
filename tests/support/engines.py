"""Docker engines of a test's own, beside the machine's: any version, with a stand-in for NVIDIA's toolkit.

What is stood in for is NVIDIA's part only (see nvidia_toolkit). How the engine is asked, what it does with the
environment, the device rules and the words of its refusals are real.

Such an engine must not take the machine's own engine's network away: it sets no rules (`--iptables=false`), and since
`--bridge=none` means to delete the interface docker0 wherever it finds one, it has a network namespace of its own, or
a bridge of its own by another name. Its containers reach the host at most.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import pytest

from tests.support import nvidia_toolkit
from tests.support.newer_engine import engine_with_cdi
from tests.support.nvidia_toolkit import GREEDY, NODE, has_rules

IMAGE = "appliance-test/gpu:1"
_PROGRAMS = ("sh", "sleep", "env", "ls", "cat")
_UP_S, _DOWN_S = 120.0, 60.0


@dataclass(frozen=True, slots=True)
class PrivateEngine:
    host: str
    """For `docker_host`."""
    version: str
    folder: Path
    cdi: bool


@contextlib.contextmanager
def private_engine(*, cdi: bool, reachable: bool = False) -> Iterator[PrivateEngine]:
    """With NVIDIA's hook and runtime; `cdi`: with CDI files too; `reachable`: what it publishes can be asked.

    Skips the test, in words, where it cannot be had.
    """
    if os.geteuid() != 0:
        pytest.skip("a private engine needs root")
    for needed in ("dockerd", "containerd", "runc", "nsenter", "unshare", "ip"):
        if shutil.which(needed) is None:
            pytest.skip(f"a private engine needs {needed}, which is not installed")
    if not NODE.exists():
        pytest.skip(f"{NODE}, which stands for a GPU, is not there")
    if not has_rules():
        pytest.skip("the stand-in for NVIDIA's hook writes device rules of control groups of version 1")
    fetched = engine_with_cdi() if cdi else ()
    # short, for a socket's path is short
    with tempfile.TemporaryDirectory(prefix="ae-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        config = folder / "daemon.json"
        # not the addresses of the machine's engine, nor of another such test
        pools = [{"base": f"10.{random.randrange(180, 250)}.0.0/16", "size": 24}]
        config.write_text(json.dumps({"default-address-pools": pools, **nvidia_toolkit.lay(folder, cdi=cdi)}))
        path = os.pathsep.join([str(folder / "bin"), *map(str, fetched), os.environ.get("PATH", os.defpath)])
        bridge = f"ae{secrets.token_hex(4)}" if reachable else ""
        argv = [
            *(() if reachable else ("unshare", "--net")),
            shutil.which("dockerd", path=path) or "dockerd",
            *("--config-file", str(config), "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
            *("--pidfile", str(folder / "pid"), "-H", f"unix://{folder}/s"),
            *(f"--bridge={bridge or 'none'}", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
        ]
        with _bridge(bridge), open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PATH": path}
            )
            try:
                version = until_up(process, folder)
                if not version:
                    said = f"a private engine does not run: {(folder / 'log').read_text(errors='replace')[-600:]}"
                    # one of a newer suite may want what this machine does not have; the installed one must run
                    pytest.skip(said) if fetched else pytest.fail(said)
                import_image(f"unix://{folder}/s")
                yield PrivateEngine(f"unix://{folder}/s", version, folder, cdi)
            finally:
                end_engine(process, folder)


@contextlib.contextmanager
def _bridge(name: str) -> Iterator[None]:
    if not name:
        yield
        return
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], timeout=60, check=True)
    try:
        address = f"10.{random.randrange(150, 180)}.{random.randrange(256)}.1/24"
        subprocess.run(["ip", "addr", "add", address, "dev", name], timeout=60, check=True)
        subprocess.run(["ip", "link", "set", name, "up"], timeout=60, check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "del", name], timeout=60, check=False)


def _listens(folder: Path) -> bool:
    """Asked first: docker-py leaves the socket of an attempt open that fails."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        return line.connect_ex(f"{folder}/s") == 0


def until_up(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Its version; empty: it has ended, or does not answer."""
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if _listens(folder):
            with contextlib.closing(_api(f"unix://{folder}/s")) as api:
                return str(api.version()["Version"])
        time.sleep(0.05)
    return ""


def import_image(host: str) -> None:
    """A few programs of this machine, and the variables that images of GPU frameworks have."""
    files = [(Path(found).resolve(), f"bin/{name}") for name in _PROGRAMS if (found := shutil.which(name))]
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for source, name in files:
            tar.add(source, name)
        libraries = {found for source, _ in files for found in _libraries(source)}
        for library in sorted(libraries):
            tar.add(Path(library).resolve(), library.removeprefix("/"))
    changes = [f"ENV {name}={value}" for name, value in GREEDY.items()]
    repository, _, tag = IMAGE.partition(":")
    with contextlib.closing(_api(host)) as api:
        said = api.import_image_from_data(layer.getvalue(), repository=repository, tag=tag, changes=changes)
        assert "error" not in str(said), said


def _api(host: str) -> docker.APIClient:
    return docker.APIClient(base_url=host, version="auto", timeout=120)


def _libraries(program: Path) -> list[str]:
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=60, check=True).stdout
    return re.findall(r"(/\S+) \(0x", said)


def end_engine(process: subprocess.Popen[bytes], folder: Path) -> None:
    if _listens(folder):
        with contextlib.closing(_api(f"unix://{folder}/s")) as api, contextlib.suppress(docker.errors.DockerException):
            for container in api.containers(all=True):
                api.remove_container(container["Id"], force=True, v=True)
            for network in api.networks(filters={"type": "custom"}):
                api.remove_network(network["Id"])
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_DOWN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        mounted = line.split(" ")[1]
        if mounted.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", mounted], capture_output=True, timeout=60, check=False)
