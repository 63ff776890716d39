"""Requests a second through the front door, beside the same server asked directly; and how fast a route is live.

    python -m tests.bench.bench_router

Needs `wrk` and `haproxy`. The server is a second HAProxy that answers every request itself, so it is not the limit.
Direct and through the door are measured in turns; medians and their ratio are printed.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from appliance.router import process
from appliance.router.router import Router
from appliance.router.table import Route, Target
from tests.support.ports import free_port

ROUNDS = 3
SECONDS = 3
CONNECTIONS = (1, 16, 128)
CHANGES = 50
PREFIX = "/notebooks/bench"
SERVER = """
global
  nbthread 1
  noreuseport
  stats socket '{directory}/admin.sock'
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 1s
frontend server
  bind 127.0.0.1:{port}
  http-request return status 200 content-type text/plain string hello
"""


def main() -> None:
    if not shutil.which("wrk"):
        print("skipped: wrk is not installed", file=sys.stderr)
        return
    directory = Path(tempfile.mkdtemp(prefix="appliance-bench-"))
    try:
        asyncio.run(measure(directory))
    finally:
        shutil.rmtree(directory)


async def measure(directory: Path) -> None:
    server_port, door_port = free_port(), free_port()
    config = directory / "server.cfg"
    config.write_text(SERVER.format(directory=directory, port=server_port))
    router = Router(
        directory / "router",
        haproxy="haproxy",
        host="127.0.0.1",
        port=door_port,
        api_socket=directory / "front.sock",
    )
    try:
        await process.launch(process.find("haproxy"), config, directory / "pid", socket=directory / "admin.sock")
        await router.start()
        await router.set_route(Route(PREFIX, (Target("server", server_port),), strip=False))
        await throughput(server_port, door_port)
        await changes(router, server_port)
    finally:
        await router.stop()
        await process.end(process.running(config), grace_s=5.0)


async def throughput(server_port: int, door_port: int) -> None:
    print(f"{'connections':>11} {'direct/s':>10} {'door/s':>10} {'ratio':>7}")
    for connections in CONNECTIONS:
        direct, door = [], []
        for _ in range(ROUNDS):
            direct.append(await wrk(server_port, connections))
            door.append(await wrk(door_port, connections))
        first, second = statistics.median(direct), statistics.median(door)
        print(f"{connections:>11} {first:>10.0f} {second:>10.0f} {second / first:>7.3f}")


async def wrk(port: int, connections: int) -> float:
    """Requests a second. Raises where a single one failed."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", f"http://127.0.0.1:{port}{PREFIX}/"]
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output = (await child.communicate())[0].decode()
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    found = re.search(r"Requests/sec:\s*([\d.]+)", output)
    if found is None:
        raise RuntimeError(output)
    return float(found[1])


async def changes(router: Router, port: int) -> None:
    """From the call to a route that serves: saved, told to HAProxy and seen to be there."""
    times = []
    for number in range(CHANGES):
        began = time.perf_counter()
        await router.set_route(Route(f"/notebooks/n{number}", (Target("server", port),), strip=False))
        times.append((time.perf_counter() - began) * 1e3)
    print(f"a route is live after {statistics.median(times):.1f} ms (median of {CHANGES}, most {max(times):.1f} ms)")


if __name__ == "__main__":
    main()
