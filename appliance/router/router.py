"""The front door: routes in, a supervised HAProxy out.

HAProxy is not a child: it outlives the daemon, and the next daemon finds it by its admin socket and goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from appliance.errors import ApplianceError, RouterError
from appliance.router import account, alive, draining, knocks, listen, ports
from appliance.router.deaths import Deaths
from appliance.router.haproxy import Haproxy
from appliance.router.hearing import listening
from appliance.router.meters import Meter, with_former
from appliance.router.notes import Notes
from appliance.router.push import Push
from appliance.router.render import Bind, Door
from appliance.router.requests import Records, Request
from appliance.router.runtime import Gone
from appliance.router.saved import Saved
from appliance.router.sync import led_to
from appliance.router.table import Route, RouterStatus, Table, check_prefix, check_route

log = logging.getLogger(__name__)

TEND_S = 5.0
"""Seconds between two looks of `watch`; a death is noticed at once."""
CONNECTIONS = 20_000
WAIT_MOST_S = 90.0
_QUIET_LOOK_S = 0.1
LOST_S = 3600.0
"""For so long it is remembered that a target has ended: any pass that knew it alive is over."""


class Router:
    """`directory` holds everything; one daemon at a time uses it. Methods may be called at the same time.

    `extra_binds` are further `ADDRESS:PORT`s, such as the containers' gateway; None: those of the last time. One that
    is not there is left out, told in `status().message`, and added by `watch` when it appears. `on_problem` hears
    what `watch` meets; it may be set at any time. `connections` is the most that clients have open; fewer where the
    machine allows fewer files. What comes to the `push_port` of an extra bind goes to `push_socket`, see `push`, and
    nothing else does; 0: there is no such port.

    `on_knock`, which may be set at any time, is called with the prefix of a route that holds requests, about once a
    second as long as it does, while `watch` runs.
    """

    def __init__(
        self,
        directory: Path,
        *,
        haproxy: str,
        host: str,
        port: int,
        api_socket: Path,
        extra_binds: Sequence[str] | None = None,
        on_problem: Callable[[str], None] | None = None,
        connections: int = CONNECTIONS,
        push_socket: Path | None = None,
        push_port: int = 0,
    ) -> None:
        self.on_knock: Callable[[str], None] | None = None
        self._haproxy = Haproxy(directory.absolute(), haproxy)
        self._host, self._port = host, port
        self._api_socket = api_socket.absolute()
        self._extra = None if extra_binds is None else _parse(extra_binds)
        self._connections = connections
        self._push_socket = push_socket.absolute() if push_socket and push_port else None
        self._push_port = push_port
        self._lock = asyncio.Lock()
        self._table = Table()
        self._door: Door | None = None
        self._missing: dict[Bind, ports.Place] = {}
        self._notes = Notes(on_problem)
        self._not_held: set[str] = set()
        """Prefixes of routes that would hold if this HAProxy could."""
        self._tried = float("-inf")
        self._replace_at: float | None = None
        """Loop time by which a HAProxy of another version, or one that does not take what it is told, goes, held
        requests or not; None: there is no need."""
        self._deaths = Deaths()
        self._telling: Records | None = None
        """To whoever asked for records last."""
        self._lost: dict[str, float] = {}
        """Target ids whose program has ended, and when: loop time."""

    @property
    def on_problem(self) -> Callable[[str], None] | None:
        return self._notes.on_problem

    @on_problem.setter
    def on_problem(self, told: Callable[[str], None] | None) -> None:
        self._notes.on_problem = told

    @property
    def can_hold(self) -> bool:
        """Whether routes with `hold` hold; known after `start`."""
        return self._haproxy.holds

    async def start(self) -> None:
        """Raises RouterError with the next step: no HAProxy, too old, the port in use and by whom."""
        async with self._lock:
            await self._haproxy.prepare()
            state, damage = self._haproxy.load()
            self._notes.note("table", damage)
            self._table = state.table if self._door else await self._of_the_living(state.table)
            if self._extra is None:
                self._extra = tuple(state.binds)
            await self._bring_up(patient=await self._held() > 0)

    async def set_route(self, route: Route) -> None:
        """Declares a route. Targets it no longer names get no more requests and finish what they have.

        A target that was `lost` and is not `back` is left out: whoever names it looked before it ended.
        """
        route = self._as_held(check_route(route))
        if self._table.grows(route):
            await self._nobody_held()
        async with self._lock:
            route = self._without_lost(route)  # it may have ended while this waited
            fresh = route.needs_slot and route.prefix not in self._table.slots
            await self._change(self._table.put(route, await self._occupied() if fresh else ()))

    async def drop_route(self, prefix: str) -> None:
        """No such route is fine. Requests in flight are finished."""
        check_prefix(prefix)
        self._not_held.discard(prefix)
        async with self._lock:
            await self._change(self._table.drop(prefix))

    async def drain(self, prefix: str, target_id: str, *, deadline_s: float) -> bool:
        """Sends no more requests to this target and waits for those in flight; False when the deadline came first.

        The target has left the route afterwards, also where the answer is False.
        """
        check_prefix(prefix)
        port = None
        async with self._lock:
            if found := self._table.find(prefix, target_id):
                port = found.port
                await self._change(self._table.retire(prefix, target_id))
        done = await draining.drained(lambda: draining.busy(self._haproxy, self._table, target_id, port), deadline_s)
        if done:
            async with self._lock:
                await draining.sweep(self._haproxy, self._table, target_id)
        return done

    async def lost(self, target_id: str) -> None:
        """Its program has ended: it leaves the routes that name it, before anybody else is given its port.

        No route gets it again before it is `back`, so that one who looked before it ended does not lead to its port.
        """
        now = asyncio.get_running_loop().time()
        self._lost = {name: at for name, at in self._lost.items() if now - at < LOST_S} | {target_id: now}
        async with self._lock:
            for prefix in [name for name in self._table.routes if self._table.find(name, target_id)]:
                await self._change(self._table.retire(prefix, target_id))

    def back(self, target_id: str) -> bool:
        """Its program runs anew: routes may name it again. Whether it was lost: then it has to be told of again."""
        return self._lost.pop(target_id, None) is not None

    async def set_binds(self, extra_binds: Sequence[str]) -> None:
        """The same meaning as in the constructor. Requests in flight do not notice; whoever is held is waited for."""
        wanted = _parse(extra_binds)
        if wanted != self._extra:
            await self._nobody_held()
        async with self._lock:
            self._extra = wanted
            if self._door is not None:
                await self._bring_up()

    async def status(self) -> RouterStatus:
        messages = []
        try:
            info = await self._haproxy.info()
        except RouterError as error:
            info = None
            messages.append(error.message)
        else:
            messages += [] if info else ["the front door does not run"]
        messages += [f"the front door does not listen on {bind}: {place}" for bind, place in self._missing.items()]
        if info and self._not_held:
            messages.append("requests are not held while no replica is ready: this HAProxy has no Lua")
        messages += self._notes
        return RouterStatus(
            running=info is not None,
            pid=info.pid if info else None,
            version=info.version if info else self._haproxy.version,
            routes=tuple(self._table.routes.values()),
            message="; ".join(messages),
        )

    async def meters(self) -> Mapping[str, Meter]:
        """What each route does now, by prefix; empty while no HAProxy runs. Raises RouterError where it is silent."""
        routes = self._table.routes
        found = await self._haproxy.meters(self._table)
        if found is None:
            return {}
        former = self._haproxy.former.connections()
        return {
            prefix: with_former(found.get(prefix, Meter()), route.targets, former) for prefix, route in routes.items()
        }

    async def records(self) -> AsyncIterator[list[Request]]:
        """Every request of every route, in batches, within a second of its end; for ever. One reader at a time.

        A batch counts as told when the next is asked for. While nobody reads, HAProxy keeps some 60,000 and then loses
        the oldest; a reader that was killed may be told the last second again.
        """
        self._telling = records = Records(self._is_route, self._haproxy.heard_file)
        tail = asyncio.create_task(records.follow(self._haproxy.socket, lambda: self._haproxy.pid))
        try:
            while True:
                batch = await records.next()
                yield batch
                records.told(batch)
        finally:
            tail.cancel()
            await asyncio.gather(tail, return_exceptions=True)
            records.close()

    async def stop(self) -> None:
        """Ends HAProxy and every request in it. The routes stay for the next start, their targets do not.

        Whoever ends the front door ends those behind it too, and their ports are anybody's by then.
        """
        async with self._lock:
            self._door = None
            await self._haproxy.stop()
            self._haproxy.forget()

    async def watch(self) -> None:
        """Restarts HAProxy when it has died, adds addresses that appear, deletes servers that are done.

        Until cancelled. It works between `start` and `stop`. Raises RouterError where knocks cannot be heard.
        """
        async with listening(self._haproxy.knocks_socket, self._hear_knocks):
            while True:
                await self._pause()
                try:
                    async with self._lock:
                        await self._tend()
                except (ApplianceError, OSError) as error:
                    self._notes.say("watch", f"the front door cannot be put right: {error}")

    # Changes; the lock is held

    async def _change(self, table: Table) -> None:
        if self._door is None:
            raise RouterError("the front door has not been started", hint="start the daemon: `appliance serve`")
        grown = table.capacity != self._table.capacity
        self._table = table
        if grown:
            await self._bring_up()
            return
        self._save()
        try:
            told = await self._haproxy.update(table, self._door)
        except Gone:
            log.warning("HAProxy does not run; starting it")
            await self._bring_up()
            return
        if told:
            return
        if not await self._held():
            await self._bring_up()
        elif self._replace_at is None:  # `watch` does it when nobody is held any more
            self._replace_at = asyncio.get_running_loop().time() + self._longest_hold()

    def _save(self) -> None:
        self._haproxy.save(Saved(self._table, self._extra or ()))

    async def _bring_up(self, *, patient: bool = False) -> None:
        self._tried = asyncio.get_running_loop().time()
        self._save()
        main = ports.resolve(self._host, self._port)
        listening = listen.choose(main, self._extra or (), self._haproxy.owns)
        for bind, place in listening.missing.items():
            if self._missing.get(bind) != place:
                log.warning("the front door does not listen on %s: %s", bind, place)
        chosen = account.choose(self._api_socket)
        self._notes.note("account", chosen.problem)
        first, *others = listening.binds
        pushed = [bind for bind in others if self._push_socket and bind.port == self._push_port]
        self._door = Door(
            binds=(first, *(bind for bind in others if bind not in pushed)),
            api_socket=self._api_socket,
            admin_socket=self._haproxy.socket,
            user=chosen.user,
            group=chosen.group,
            threads=min(4, os.cpu_count() or 1),
            connections=_connections(self._connections),
            holds=self._haproxy.holds,
            push=Push(self._push_socket, [str(bind) for bind in pushed]) if self._push_socket else None,
        )
        if self._telling:
            self._telling.hurry()
        current = await self._haproxy.serve(self._table, self._door, patient=patient)
        self._replace_at = None if current else self._tried + self._longest_hold()
        self._missing = dict(listening.missing)

    async def _of_the_living(self, table: Table) -> Table:
        """As it was saved, without targets that have ended meanwhile, which a HAProxy that is new would lead to.

        One that runs goes on as it is: it has looked itself.
        """
        if await self._haproxy.info() is not None:
            return table
        gone = await alive.refusing(target for route in table.routes.values() for target in route.targets)
        return table.keep(lambda target: (target.address, target.port) not in gone)

    async def _occupied(self) -> set[int]:
        """Slots that still have servers or requests, or that a path leads to in a HAProxy that was not told all yet.

        Requests that are held in one would go to the servers of whoever got it.
        """
        try:
            observed = await self._haproxy.observe()
            return {server.slot for server in observed.servers} | led_to(observed) | await self._haproxy.present()
        except Gone:
            return set()

    # Holding

    def _as_held(self, route: Route) -> Route:
        """Where nothing can be held the daemon's waiting page answers."""
        self._not_held.discard(route.prefix)
        if route.hold is None or self._door is None or self.can_hold:
            return route
        self._not_held.add(route.prefix)
        return replace(route, hold=None)

    def _without_lost(self, route: Route) -> Route:
        kept = tuple(target for target in route.targets if target.id not in self._lost)
        return route if len(kept) == len(route.targets) else replace(route, targets=kept)

    def _is_route(self, prefix: str) -> bool:
        return prefix in self._table.routes

    async def _hear_knocks(self, reader: asyncio.StreamReader) -> None:
        await knocks.listen(reader, self._is_route, self._knocked)

    def _knocked(self, prefix: str) -> None:
        if self.on_knock is not None:
            self.on_knock(prefix)

    async def _nobody_held(self) -> None:
        """Before HAProxy is replaced: whoever is held in the former one would never hear of a new server.

        At most the longest hold, or a while. Without the lock: those who are waited for are set free by other changes.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._longest_hold()
        while await self._held() and loop.time() < deadline:  # noqa: ASYNC110  HAProxy has nothing to wait on
            await asyncio.sleep(_QUIET_LOOK_S)

    def _longest_hold(self) -> float:
        """Seconds that a change waits for those who are held; it does not wait for the patient of an hour."""
        holds = (route.hold.seconds for route in self._table.routes.values() if route.hold)
        return min(WAIT_MOST_S, max(holds, default=0.0))

    async def _held(self) -> int:
        found = await self._haproxy.meters(self._table)
        return sum(meter.held for meter in (found or {}).values())

    # Supervision

    async def _pause(self) -> None:
        """Until HAProxy ends or it is time to look; after a death, longer the more there were lately."""
        pid = self._haproxy.pid if self._door is not None else 0
        if await self._deaths.died(pid, TEND_S) and self._haproxy.pid == pid:
            await self._deaths.wait(since=self._tried)

    async def _tend(self) -> None:
        if self._door is None:
            return
        if await self._haproxy.info() is None:
            self._notes.say("death", f"HAProxy (pid {self._haproxy.pid}) has ended; starting it again")
            await self._bring_up()
        elif self._replace_at is not None:
            if not await self._held() or asyncio.get_running_loop().time() >= self._replace_at:
                await self._bring_up()
        elif any(ports.probe(bind) is ports.Place.FREE for bind in self._missing) and not await self._held():
            await self._bring_up()
        await draining.sweep(self._haproxy, self._table)
        for topic in ("death", "watch"):
            self._notes.note(topic, "")


def _parse(binds: Sequence[str]) -> tuple[Bind, ...]:
    return tuple(ports.parse_bind(text) for text in binds)


def _connections(wanted: int) -> int:
    """Client connections, each of which takes a second open file for its server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else max(64, min(wanted, (hard - 1024) // 2))
