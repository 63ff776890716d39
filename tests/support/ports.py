"""Ports for servers that tests start later than they choose them."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_FIRST, _LAST = 10_000, 65_535
_chance = random.SystemRandom()  # other processes choose at the same time, and property tests seed the common one
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now, never the same twice in a process.

    Of those that the kernel gives to nobody by itself: one that it does give, any connection of anybody on this machine
    may have by the time it is bound, and a connection to it may even be answered by itself.
    """
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ours = [port for port in range(_FIRST, _LAST + 1) if not first <= port <= last and port not in _given]
    while True:
        port = _chance.choice(ours)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
