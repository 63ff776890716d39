"""The front door beside others in its place, and how fast a route is live.

    python -m tests.bench.bench_router [SECONDS]

Needs `wrk` and `haproxy`; nginx is measured where it is installed (`apt-get install nginx-light`). The server is a
HAProxy that answers every request itself, at once or after 20 ms. nginx and HAProxy are configured as an ordinary
reverse proxy is: connections to the server are kept, the same four X-Forwarded headers are set, nothing is logged; the
door does all that it always does, and this process reads and counts its records as the daemon would. For each number
of connections all are measured in turns, and again; printed are the medians, of which the processor times are those of
the proxy (direct: nothing) and of the reader of its records for one request, and two ratios to the best of the other
proxies: requests a second (more is better) and the 99th percentile (less is better). Direct has a ratio too: it is what
any proxy costs. Short runs on a busy machine are good for ratios of 1.3 and more; processor time is steadier.
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
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

from appliance.router import process
from appliance.router.router import Router
from appliance.router.table import Hold, Route, Target
from appliance.telemetry.requests import Tally
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
worker_processes {threads};
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
  upstream server {{
    server 127.0.0.1:{server};
    keepalive 256;
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://server;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto http;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Prefix /deployments/bench;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Way:
    name: str
    port: int
    pids: Callable[[], list[int]]
    readers: Callable[[], list[int]] = list
    """Processes that read what it tells of its requests."""


@dataclass(frozen=True)
class Measured:
    rate: float
    """Requests a second."""
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Processor time of the proxy for one request."""
    reader_us: float


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
        port = free_port()
        text = PROXY.format(port=port, rules=FORWARDED, server=server)
        config = await _haproxy(directory, "haproxy", text, configs)
        ways.append(Way("haproxy", port, partial(process.running, config)))
        if program := _nginx():
            port = free_port()
            config = directory / "nginx.conf"
            config.write_text(NGINX.format(directory=directory, port=port, server=server, threads=THREADS))
            nginx = await asyncio.create_subprocess_exec(program, "-c", str(config), "-p", str(directory))
            await _listens(port)
            ways.append(Way("nginx", port, partial(_family, nginx.pid)))
        await router.start()
        await router.set_route(Route(PREFIX, (Target("server", server),), strip=True, hold=Hold(60, 1000)))
        running = partial(process.running, directory / "router" / "haproxy.cfg")
        ways.append(Way("door", door, running, lambda: [os.getpid()]))
        reading = asyncio.create_task(_read(router))
        try:
            await throughput(ways, delay, seconds)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if not delay:
            await changes(router, server)
    finally:
        if nginx is not None:
            nginx.terminate()
            await nginx.wait()
        await router.stop()
        for config in configs:
            await process.end(process.running(config), grace_s=5.0)


async def _read(router: Router) -> None:
    """As the daemon does, but for the database, which gets a row a second."""
    tally = Tally()
    async for batch in router.records():
        for record in batch:
            tally.add(record)
        tally.take()


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
    print(
        f"{'connections':>11} {'way':>8} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'CPU us':>7} {'reader':>7}"
        f" {'req/s to best':>14} {'p99 to best':>12}"
    )
    for connections in CONNECTIONS:
        found: defaultdict[str, list[Measured]] = defaultdict(list)
        for _ in range(ROUNDS):
            for way in ways:
                found[way.name].append(await wrk(way, connections, seconds))
        rows = {name: _medians(all_) for name, all_ in found.items()}
        others = [row for name, row in rows.items() if name not in ("direct", "door")]
        rate, p99 = max(one.rate for one in others), min(one.p99_ms for one in others)
        for name, row in rows.items():
            print(
                f"{connections:>11} {name:>8} {row.rate:>8.0f} {row.p50_ms:>8.2f} {row.p99_ms:>8.2f} {row.cpu_us:>7.1f}"
                f" {row.reader_us:>7.1f} {row.rate / rate:>14.2f} {row.p99_ms / p99:>12.2f}",
                flush=True,
            )


def _medians(all_: list[Measured]) -> Measured:
    columns = zip(*(astuple(one) for one in all_), strict=True)
    return Measured(*(statistics.median(column) for column in columns))


def _nginx() -> str | None:
    if found := shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"):
        return found
    print("skipped: nginx is not installed", file=sys.stderr)
    return None


async def _listens(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


async def wrk(way: Way, connections: int, seconds: int) -> Measured:
    """Raises where a single request failed."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{way.port}{PREFIX}/"]
    before, read_before = _cpu_s(way.pids()), _cpu_s(way.readers())
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output = (await child.communicate())[0].decode()
    used, read = _cpu_s(way.pids()) - before, _cpu_s(way.readers()) - read_before
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", output)
    count = re.search(r"(\d+) requests in", output)
    if rate is None or count is None:
        raise RuntimeError(output)
    one = 1e6 / int(count[1])
    return Measured(float(rate[1]), _latency(output, 50), _latency(output, 99), used * one, read * one)


def _latency(output: str, percent: int) -> float:
    """In milliseconds."""
    found = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s)", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(output)
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


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
