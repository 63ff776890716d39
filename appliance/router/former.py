"""HAProxys that were replaced and still finish what they had begun.

They have no admin socket any more, but their connections can be counted from outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.router import ports, process
from appliance.router.render import KEEPALIVE_S


@dataclass(frozen=True, slots=True)
class _Replaced:
    at: float
    """Loop time, seconds."""
    ports: Mapping[str, int]
    """Target id -> port, as this process knew them."""


class Former:
    def __init__(self) -> None:
        self._replaced: dict[int, _Replaced] = {}

    def add(self, pids: Iterable[int], targets: Mapping[str, int], now: float) -> None:
        """`targets`: id and port of every server that one of them may still be talking to."""
        for pid in pids:
            self._replaced.setdefault(pid, _Replaced(now, dict(targets)))

    def uses(self, target_id: str, port: int | None, now: float) -> bool:
        """Whether a request to this target may be in flight in one of them, or still come."""
        return any(_uses(pid, replaced, target_id, port, now) for pid, replaced in self._alive().items())

    def connections(self) -> Mapping[int, int]:
        """By the port at the other end: requests in flight, and for a moment connections that wait for another."""
        counted: Counter[int] = Counter()
        for pid in self._alive():
            counted.update(ports.connected(pid))
        return counted

    def _alive(self) -> Mapping[int, _Replaced]:
        self._replaced = {pid: replaced for pid, replaced in self._replaced.items() if process.alive(pid)}
        return self._replaced


def _uses(pid: int, replaced: _Replaced, target_id: str, port: int | None, now: float) -> bool:
    port = replaced.ports.get(target_id, port)
    if port is None:
        return False
    # It lives, so it has clients; an idle one among them may send one more request.
    return now < replaced.at + KEEPALIVE_S or ports.connections(pid, port) > 0
