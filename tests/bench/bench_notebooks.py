"""How long a stopped notebook takes to a kernel that answers, beside `docker run` of the same image.

    python -m tests.bench.bench_notebooks [ROUNDS]

Both are asked the same way until a kernel has run code: the notebook through the front door, with its snapshot before
the session and all that the appliance mounts, `docker run` on a port of its own. In turns, since a machine is not
equally busy all the time; printed are the medians of both, and of the ratio of each turn: at most 1.2.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import docker
import httpx2
from jupyter_kernel_client import JupyterKernelClient

from tests.support.daemon import RunningDaemon
from tests.support.ports import free_port

ROUNDS = 9
TARGET = 1.2
MOST_S = 300.0
IMAGE = "appliance/notebook"
TOKEN = "beside"


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    home = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))  # a socket's path must be short
    daemon = RunningDaemon(home)
    try:
        daemon.start()
        return compare(daemon, rounds)
    finally:
        daemon.stop()
        daemon.cli("stop", "--all")
        daemon.remove_containers()
        shutil.rmtree(home, ignore_errors=True)


def compare(daemon: RunningDaemon, rounds: int) -> int:
    made = daemon.cli("notebook", "create", "bench", timeout_s=900)
    if made.returncode:
        raise SystemExit(made.stderr)
    daemon.cli("notebook", "stop", "bench")
    ours: list[float] = []
    plain: list[float] = []
    print(f"{'notebook':>10} {'docker run':>10} {'ratio':>6}")
    for number in range(rounds):
        ways: list[tuple[list[float], Callable[[], float]]] = [
            (ours, lambda: of_notebook(daemon, "bench")),
            (plain, of_docker),
        ]
        for took, way in ways if number % 2 else reversed(ways):
            took.append(way())
        print(f"{ours[-1]:>9.2f}s {plain[-1]:>9.2f}s {ours[-1] / plain[-1]:>6.2f}", flush=True)
    ratio = statistics.median(one / other for one, other in zip(ours, plain, strict=True))
    print(f"median {statistics.median(ours):.2f} s beside {statistics.median(plain):.2f} s, ratio {ratio:.2f}")
    print(f"target {TARGET}: {'met' if ratio <= TARGET else 'missed'}")
    return 0 if ratio <= TARGET else 1


def of_notebook(daemon: RunningDaemon, name: str) -> float:
    """Seconds from the request that starts it. It is stopped again afterwards."""
    access = daemon.client.access(name)
    began = time.monotonic()
    daemon.client.act("notebooks", name, "start")
    took = usable(access["base_url"], access["token"], began)
    daemon.cli("notebook", "stop", name)
    daemon.phase("notebooks", name, "Stopped")
    return took


def of_docker() -> float:
    engine = docker.from_env()
    port = free_port()
    command = ["jupyter", "lab", "--ServerApp.ip=0.0.0.0", "--ServerApp.port=8888", "--ServerApp.allow_root=True"]
    try:
        began = time.monotonic()
        container = engine.containers.run(
            IMAGE,
            [*command, "--ServerApp.open_browser=False"],
            detach=True,
            init=True,
            environment={"JUPYTER_TOKEN": TOKEN},
            ports={"8888/tcp": ("127.0.0.1", port)},
        )
        try:
            return usable(f"http://127.0.0.1:{port}/", TOKEN, began)
        finally:
            container.remove(force=True, v=True)
    finally:
        engine.close()


def usable(base: str, token: str, began: float) -> float:
    """Seconds since `began` until a new kernel has answered."""
    headers = {"Authorization": f"token {token}"}
    with httpx2.Client(headers=headers, timeout=10, trust_env=False) as http:
        while not _answers(http, f"{base}api/kernelspecs"):
            if time.monotonic() - began > MOST_S:
                raise SystemExit(f"{base} did not answer within {MOST_S:.0f} s")
            time.sleep(0.02)
    with JupyterKernelClient(server_url=base.rstrip("/"), token=token) as kernel:
        answer = kernel.execute("6 * 7", timeout=MOST_S)
        took = time.monotonic() - began
        if answer["status"] != "ok":
            raise SystemExit(f"the kernel of {base} said {answer}")
    return took


def _answers(http: httpx2.Client, url: str) -> bool:
    with suppress(httpx2.HTTPError):
        return http.get(url).status_code == 200
    return False


if __name__ == "__main__":
    raise SystemExit(main())
