"""The front door beside others in its place, and how fast a route is live.

    python -m tests.bench.bench_router [SECONDS]

Needs `wrk` and `haproxy`; nginx is measured where it is installed. The server is a HAProxy that answers every request
itself, at once or after 20 ms. For each number of connections all are measured in turns; printed are the medians of
requests a second, of the 99th percentile and of the processor time that a request takes in the proxy (for a direct
request: nothing), and what part the door has of the best proxy. Short runs on a busy machine are good for ratios of
1.3 and more; processor time is steadier.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from appliance.router import process
from appliance.router.router import Router
from appliance.router.table import Hold, Route, Target
from tests.support.ports import free_port

ROUNDS = 3
CONNECTIONS = (1, 16, 128)
DELAYS_MS = (0, 20)
CHANGES = 50
PREFIX = "/deployments/bench"
THREADS = 2
HAPROXY = """
global
  nbthread {threads}
  noreuseport
  stats socket '{directory}/{name}.sock'
  {extra}
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 1s
  option http-no-delay
"""
SERVER = """
frontend server
  bind 127.0.0.1:{port}
  {delay}
  http-request return status 200 content-type text/plain string hello
"""
PROXY = """
frontend door
  bind 127.0.0.1:{port}
  {rules}
  default_backend server
backend server
  server server 127.0.0.1:{server}
"""
FORWARDED = """http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Prefix /deployments/bench"""
SLEEP = """core.register_action("sleep", {"http-req"}, function(txn) core.msleep(20) end, 0)"""
NGINX = """
daemon off;
worker_processes 2;
pid {directory}/nginx.pid;
error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory};
  proxy_temp_path {directory};
  fastcgi_temp_path {directory};
  uwsgi_temp_path {directory};
  scgi_temp_path {directory};
  upstream server {{ server 127.0.0.1:{server}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://server;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Way:
    name: str
    port: int
    pids: Callable[[], list[int]]


@dataclass(frozen=True)
class Measured:
    rate: float
    """Requests a second."""
    p99_ms: float
    cpu_us: float
    """Processor time of the proxy for one request."""


def main() -> None:
    if not shutil.which("wrk"):
        print("skipped: wrk is not installed", file=sys.stderr)
        return
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    directory = Path(tempfile.mkdtemp(prefix="appliance-bench-"))
    directory.chmod(0o711)
    try:
        asyncio.run(measure(directory, seconds))
    finally:
        shutil.rmtree(directory)


async def measure(directory: Path, seconds: int) -> None:
    for delay in DELAYS_MS:
        await _with_delay(directory / str(delay), delay, seconds)


async def _with_delay(directory: Path, delay: int, seconds: int) -> None:
    directory.mkdir(mode=0o711)
    (directory / "sleep.lua").write_text(SLEEP)
    server, door = free_port(), free_port()
    router = Router(
        directory / "router", haproxy="haproxy", host="127.0.0.1", port=door, api_socket=directory / "front.sock"
    )
    configs: list[Path] = []
    nginx: asyncio.subprocess.Process | None = None
    try:
        extra = f"lua-load {directory}/sleep.lua"
        action = "http-request lua.sleep" if delay else ""
        await _haproxy(directory, "server", SERVER.format(port=server, delay=action), configs, extra=extra, threads=1)
        ways = [Way("direct", server, list)]
        for name, rules in (("haproxy", ""), ("haproxy+headers", FORWARDED)):
            port = free_port()
            config = await _haproxy(directory, name, PROXY.format(port=port, rules=rules, server=server), configs)
            ways.append(Way(name, port, partial(process.running, config)))
        if program := shutil.which("nginx"):
            port = free_port()
            config = directory / "nginx.conf"
            config.write_text(NGINX.format(directory=directory, port=port, server=server))
            nginx = await asyncio.create_subprocess_exec(program, "-c", str(config), "-p", str(directory))
            ways.append(Way("nginx", port, partial(_family, nginx.pid)))
        await router.start()
        await router.set_route(Route(PREFIX, (Target("server", server),), strip=True, hold=Hold(60, 1000)))
        ways.append(Way("door", door, partial(process.running, directory / "router" / "haproxy.cfg")))
        await throughput(ways, delay, seconds)
        if not delay:
            await changes(router, server)
    finally:
        if nginx is not None:
            nginx.terminate()
            await nginx.wait()
        await router.stop()
        for config in configs:
            await process.end(process.running(config), grace_s=5.0)


async def _haproxy(
    directory: Path, name: str, text: str, configs: list[Path], *, extra: str = "", threads: int = THREADS
) -> Path:
    config = directory / f"{name}.cfg"
    config.write_text(HAPROXY.format(threads=threads, directory=directory, name=name, extra=extra) + text)
    await process.launch(process.find("haproxy"), config, directory / f"{name}.pid", socket=directory / f"{name}.sock")
    configs.append(config)
    return config


async def throughput(ways: list[Way], delay: int, seconds: int) -> None:
    print(f"\nserver answers after {delay} ms")
    print(f"{'connections':>11} {'way':>16} {'req/s':>9} {'p99 ms':>8} {'CPU us':>7} {'of the best':>12}")
    for connections in CONNECTIONS:
        found: defaultdict[str, list[Measured]] = defaultdict(list)
        for _ in range(ROUNDS):
            for way in ways:
                found[way.name].append(await wrk(way, connections, seconds))
        rates = {name: statistics.median(one.rate for one in all_) for name, all_ in found.items()}
        best = max(rate for name, rate in rates.items() if name not in ("direct", "door"))
        for name, all_ in found.items():
            p99 = statistics.median(one.p99_ms for one in all_)
            cpu = statistics.median(one.cpu_us for one in all_)
            share = f"{rates[name] / best:.3f}"
            print(f"{connections:>11} {name:>16} {rates[name]:>9.0f} {p99:>8.2f} {cpu:>7.1f} {share:>12}", flush=True)


async def wrk(way: Way, connections: int, seconds: int) -> Measured:
    """Raises where a single request failed."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{way.port}{PREFIX}/"]
    before = _cpu_s(way.pids())
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output = (await child.communicate())[0].decode()
    used = _cpu_s(way.pids()) - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", output)
    count = re.search(r"(\d+) requests in", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if rate is None or count is None or p99 is None:
        raise RuntimeError(output)
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}[p99[2]]
    return Measured(float(rate[1]), float(p99[1]) * scale, used / int(count[1]) * 1e6)


def _cpu_s(pids: list[int]) -> float:
    """Of these processes so far; with a resolution of 10 ms."""
    total = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(words[11]) + int(words[12])
    return total / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


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
