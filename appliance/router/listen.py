"""Where the front door listens: the user's address, which must be free, and others, which may be missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from appliance.errors import RouterError
from appliance.router import ports
from appliance.router.ports import Place
from appliance.router.render import Bind

Ours = Callable[[int], bool]
"""Whether a process id is one of our own HAProxys."""


@dataclass(frozen=True, slots=True)
class Listening:
    binds: Sequence[Bind]
    """The user's address first."""
    missing: Mapping[Bind, Place]
    """Wanted addresses that cannot be had now, and why."""


def choose(main: Bind, extra: Sequence[Bind], ours: Ours) -> Listening:
    """Raises RouterError where the user's own address cannot be had."""
    _claim(main, ours)
    further = [bind for bind in dict.fromkeys(extra) if not ports.covers(main, bind)]
    places = {bind: _place(bind, ours) for bind in further}
    missing = {bind: place for bind, place in places.items() if place is not Place.FREE}
    return Listening((main, *(bind for bind in further if bind not in missing)), missing)


def _place(bind: Bind, ours: Ours) -> Place:
    """An address that our own HAProxy listens on is free to us."""
    place = ports.probe(bind)
    if place is not Place.TAKEN:
        return place
    holder = ports.holder(bind)
    return Place.FREE if holder is not None and ours(holder.pid) else place


def _claim(main: Bind, ours: Ours) -> None:
    place = _place(main, ours)
    if place is Place.FREE:
        return
    if place is Place.TAKEN:
        holder = ports.holder(main)
        raise RouterError(
            f"port {main.port} is in use by {holder or 'a program of another account'}",
            where=str(main),
            hint="stop that program, or set APPLIANCE_PORT to another port",
        )
    raise RouterError(
        f"cannot listen there: {place}",
        where=str(main),
        hint="set APPLIANCE_HOST to an address of this machine and APPLIANCE_PORT to a port above 1023",
    )
