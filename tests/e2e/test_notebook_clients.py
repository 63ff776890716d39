"""Others' clients, through the front door with a token: JupyterLab's own, as VS Code asks, and jupyter_client's.

Each starts a kernel, runs code on it, interrupts, restarts and ends it, many times in three lanes,
beside a websocket that says nothing. Then nothing more is there than before: no kernel, no process, no socket.
`jupyter_client` itself speaks ZMQ only; `jupyter_kernel_client` is its KernelManager and KernelClient over HTTP.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from jupyter_kernel_client import JupyterKernelClient

from appliance import wire
from tests.support.containers import run_inside
from tests.support.daemon import RunningDaemon, eventually
from tests.support.node import script

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.docker,
    pytest.mark.images,
    pytest.mark.haproxy,
    pytest.mark.filterwarnings("default"),  # of the clients' own packages
]

ROUNDS = int(os.environ.get("APPLIANCE_TEST_ROUNDS", "50"))
CLIENT_ROUNDS = int(os.environ.get("APPLIANCE_TEST_ROUNDS", "15"))
"""Of JupyterLab's and of jupyter_client's, which takes ten seconds to close a websocket; the variable is for both."""
LANES = 3
WARM = LANES
"""Rounds before anything is counted: the server opens what it keeps for all kernels with the first ones."""
MOST_S = 180
SPARE = 3
"""So many more sockets may be open than before, of connections that are kept for the next request."""
COUNT = """import os
found = {"sockets": 0, "processes": 0}
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    try:
        opened = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        continue
    found["processes"] += 1
    found["sockets"] += sum(name.startswith("socket:") for name in opened)
print(found["sockets"], found["processes"])"""


@dataclass(frozen=True)
class Counted:
    kernels: int
    sockets: int
    """Of all processes in the container."""
    processes: int
    connections: int
    """Of the front door."""

    def no_more_than(self, before: Counted) -> bool:
        return (
            self.kernels == before.kernels
            and self.processes <= before.processes
            and self.sockets <= before.sockets + SPARE
            and self.connections <= before.connections + SPARE
        )


@pytest.fixture(scope="module")
def notebook(daemon: RunningDaemon, notebook_image: str) -> str:
    made = daemon.cli("notebook", "create", "lab", timeout_s=600)
    assert made.returncode == 0, made.stderr
    return "lab"


@pytest.fixture(scope="module")
def silent(daemon: RunningDaemon, notebook: str) -> Iterator[JupyterKernelClient]:
    """A kernel whose websocket is open and says nothing while the other tests are busy."""
    with client(daemon.client.access(notebook)) as kernel:
        kernel.execute("kept = 'from before'", timeout=MOST_S)
        yield kernel


def client(access: wire.Access) -> JupyterKernelClient:
    return JupyterKernelClient(server_url=access["base_url"].rstrip("/"), token=access["token"])


def count(daemon: RunningDaemon, notebook: str) -> Counted:
    access = daemon.client.access(notebook)
    headers = {"Authorization": f"token {access['token']}"}
    kernels = httpx2.get(f"{access['base_url']}api/kernels", headers=headers, timeout=60).json()
    (container,) = daemon.running_containers(notebook)
    sockets, processes = map(int, run_inside(container, "python3", "-c", COUNT).split())
    return Counted(len(kernels), sockets, processes, connections(daemon))


def connections(daemon: RunningDaemon) -> int:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(daemon.home / "router/admin.sock"))
        admin.sendall(b"show info\n")
        said = b"".join(iter(lambda: admin.recv(65_536), b"")).decode()
    return int(next(line.split(":")[1] for line in said.splitlines() if line.startswith("CurrConns:")))


def nothing_more(daemon: RunningDaemon, notebook: str, before: Counted) -> None:
    seen: list[Counted] = []

    def settled() -> bool:
        seen.append(count(daemon, notebook))
        return seen[-1].no_more_than(before)

    eventually(settled, within_s=40, what=lambda: f"no more than before; before {before}, at last {seen[-1]}")
    print(f"before {before}, after {seen[-1]}")


def test_the_client_of_jupyterlab_and_vs_code_leaves_nothing(
    daemon: RunningDaemon, notebook: str, silent: JupyterKernelClient, node: str
) -> None:
    typed = daemon.cli("notebook", "url", notebook, "--vscode").stdout.strip()

    def rounds(number: int) -> dict[str, Any]:
        return script(node, "services.mjs", given={"url": typed, "rounds": number, "together": LANES})

    rounds(WARM)
    before = count(daemon, notebook)
    found = rounds(ROUNDS)
    assert found["rounds"] == ROUNDS
    nothing_more(daemon, notebook, before)


def test_the_client_of_jupyter_leaves_nothing(
    daemon: RunningDaemon, notebook: str, silent: JupyterKernelClient
) -> None:
    access = daemon.client.access(notebook)
    with ThreadPoolExecutor(LANES) as lanes:
        list(lanes.map(lambda number: one_round(access, number), range(WARM)))
        before = count(daemon, notebook)
        list(lanes.map(lambda number: one_round(access, number), range(CLIENT_ROUNDS)))
    nothing_more(daemon, notebook, before)


def one_round(access: wire.Access, number: int) -> None:
    with client(access) as kernel:
        assert said(kernel, f"kept = {number}; print(kept * 2)") == f"{number * 2}\n"
        assert interrupted(kernel) == "KeyboardInterrupt"
        assert said(kernel, "print(kept)") == f"{number}\n"
        kernel.restart(timeout=MOST_S)
        # Jupyter hears of a new kernel's output a moment later than of the kernel; jupyter_client's way to wait for it
        kernel._manager.client.wait_for_ready(timeout=MOST_S)
        assert said(kernel, "print('kept' in globals())") == "False\n"


def interrupted(kernel: JupyterKernelClient) -> str:
    """Name of the exception that ends a cell which would sleep for a minute."""
    sleeps = threading.Event()

    def heard(message: dict[str, Any]) -> None:
        if message["header"]["msg_type"] == "stream":
            sleeps.set()

    def interrupt() -> None:
        assert sleeps.wait(MOST_S), "the cell never began"
        kernel.interrupt(timeout=MOST_S)

    code = "import time; print('sleeps', flush=True); time.sleep(60)"
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(interrupt)
        reply = kernel.execute_interactive(code, output_hook=heard, timeout=MOST_S)
        done.result(MOST_S)
    return str(reply["content"].get("ename"))


def said(kernel: JupyterKernelClient, code: str) -> str:
    answer = kernel.execute(code, timeout=MOST_S)
    assert answer["status"] == "ok", answer
    return "".join(output.get("text", "") for output in answer["outputs"])


def test_a_websocket_that_said_nothing_all_the_while_still_answers(silent: JupyterKernelClient) -> None:
    assert said(silent, "print(kept)") == "from before\n"
