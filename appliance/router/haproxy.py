"""One HAProxy and its directory: brought up, told the table, replaced without a gap.

A change is saved first; then what HAProxy has in memory is compared with the table and corrected, so a crash between
the two is healed by the next comparison. HAProxy's own files are made from the table whenever it is launched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from appliance.errors import ApplianceError, RouterError
from appliance.router import meters, ports, process, saved
from appliance.router.former import Former
from appliance.router.meters import Meter
from appliance.router.render import KNOCKS_SOCKET, LANGUAGE, Door, Files, check_socket_path, render
from appliance.router.runtime import Gone, Info, Runtime
from appliance.router.saved import Saved
from appliance.router.sync import Observed, Server, plan, removal
from appliance.router.table import Table

log = logging.getLogger(__name__)

GRACE_S = 5.0
ANSWER_S = 15.0
_LOOK_S = 0.01
_ROUNDS = 3


class Haproxy:
    """Not for concurrent changes: the router holds its lock."""

    def __init__(self, directory: Path, program: str) -> None:
        self.config = directory / "haproxy.cfg"
        self.socket = directory / "admin.sock"
        self.knocks_socket = directory / KNOCKS_SOCKET
        self.heard_file = directory / "heard"
        self.version = ""
        """Of the program; empty before `prepare`."""
        self.holds = False
        """Whether the program can hold requests; known after `prepare`."""
        self.pid = 0
        self.former = Former()
        self._directory = directory
        self._pid_file = directory / "haproxy.pid"
        self._saved = directory / "routes.json"
        self._program = program
        self._runtime = Runtime(self.socket)
        self._boot = saved.this_boot()
        self._written = ""

    async def prepare(self) -> None:
        """Raises RouterError where HAProxy is missing or too old, or the directory cannot be used."""
        self._program = process.find(self._program)
        self.version = await process.version(self._program)
        self.holds = await process.has_lua(self._program)
        check_socket_path(self.socket)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._directory.chmod(0o711)  # HAProxy's account comes to the daemon's sockets; each file is its owner's
        except OSError as error:
            raise saved.cannot_write(self._directory, error) from error

    def load(self) -> tuple[Saved, str]:
        """What was saved, and what went wrong with it, if anything."""
        try:
            return saved.load(self._saved, self._boot), ""
        except saved.Damaged as error:
            aside = self._saved.with_suffix(".damaged")
            self._saved.replace(aside)
            return Saved(), f"the saved routes could not be read ({error}) and were moved to {aside}"

    def forget(self) -> None:
        """What was saved leads to nobody. Where it cannot be read or written, so it is told at the next start."""
        try:
            state = saved.load(self._saved, self._boot)
            table = saved.nobody(state.table)
            if table != state.table:
                self.save(replace(state, table=table))
        except (saved.Damaged, ApplianceError) as error:
            log.warning("the saved routes stay as they are: %s", error)

    async def info(self) -> Info | None:
        return await self._runtime.info()

    async def observe(self) -> Observed:
        return await self._runtime.observe()

    async def present(self) -> set[int]:
        return await self._runtime.present()

    async def meters(self, table: Table) -> dict[str, Meter] | None:
        """Of the routes that have a slot. None: no HAProxy runs."""
        prefixes = {slot: route.prefix for slot, route in table.served()}
        try:
            return meters.read(await self._runtime.figures(tuple(prefixes)), prefixes)
        except Gone:
            return None

    def owns(self, pid: int) -> bool:
        return pid in process.running(self.config)

    def save(self, state: Saved) -> None:
        text = saved.to_json(state, self._boot)
        if text != self._written:
            saved.write(self._saved, text)
            self._written = text

    async def serve(self, table: Table, door: Door, *, patient: bool = False) -> bool:
        """Adopts the running HAProxy, replaces it where its fixed part differs, or starts one.

        `patient`: one whose fixed part differs goes on for now if it understands what this version tells it; False: so
        it is, and it has to be replaced later.
        """
        info = await self.info()
        files = render(table, door)
        current = info is not None and info.digest == files.digest
        if info is None or not (current or (patient and info.language == LANGUAGE)):
            await self._replace(info, files)
            return True
        self._adopt(info, {})
        if await self.update(table, door):
            return current
        if not patient:
            await self._replace(info, files)
        return not patient

    async def update(self, table: Table, door: Door) -> bool:
        """Tells HAProxy the difference until there is none. False: it does not take it, and has to load the files anew.

        Raises Gone where no HAProxy runs.
        """
        commands: list[str] = []
        for _ in range(_ROUNDS):
            commands = plan(table, await self.observe())
            if not commands:
                return True
            await self._runtime.run(commands)
        if not plan(table, await self.observe()):
            return True
        log.warning("HAProxy did not take %r; it has to load the files anew", commands)
        return False

    async def remove(self, servers: Iterable[Server]) -> None:
        await self._runtime.run([command for server in servers for command in removal(server)])

    async def stop(self) -> None:
        await process.end(process.running(self.config), grace_s=GRACE_S)
        self.pid = 0
        for path in (self._pid_file, self.socket):
            path.unlink(missing_ok=True)

    async def _replace(self, info: Info | None, files: Files) -> None:
        """Loads the files, taking over from the running HAProxy where there is one."""
        await self._install(files)
        targets = await self._targets() if info else {}
        if info is None:
            await self._end_unreachable()
        old_pid = info.pid if info else None
        await process.launch(self._program, self.config, self._pid_file, old_pid=old_pid, socket=self.socket)
        started = await self._successor(old_pid)
        self._adopt(started, targets)
        log.info("HAProxy %s serves the front door (pid %d)", started.version, started.pid)

    async def _successor(self, old_pid: int | None) -> Info:
        """The new one, once it alone answers: the former shares the admin socket until it has heard that it is over."""
        deadline = asyncio.get_running_loop().time() + ANSWER_S
        while asyncio.get_running_loop().time() < deadline:
            started = await self.info()
            if started and started.pid != old_pid and not (old_pid and ports.listens(old_pid)):
                return started
            await asyncio.sleep(_LOOK_S)
        raise RouterError(
            "HAProxy was started but does not answer", where=str(self.socket), hint="look at `appliance status`"
        )

    async def _targets(self) -> dict[str, int]:
        try:
            return {server.id: server.port for server in (await self.observe()).servers}
        except Gone:
            return {}

    async def _end_unreachable(self) -> None:
        """One that lost its admin socket can be neither told anything nor replaced politely."""
        lost = [pid for pid in process.running(self.config) if ports.listens(pid)]
        if lost:
            log.warning("HAProxy (pid %s) has lost its admin socket and is ended", lost[0])
            await process.end(lost, grace_s=GRACE_S)

    def _adopt(self, info: Info, targets: dict[str, int]) -> None:
        now = asyncio.get_running_loop().time()
        self.pid = info.pid
        self.former.add((pid for pid in process.running(self.config) if pid != info.pid), targets, now)

    async def _install(self, files: Files) -> None:
        """Puts the files in place unless HAProxy refuses them; the maps cannot be wrong."""
        candidate = self._directory / "candidate.cfg"
        for name, text in files.beside.items():
            saved.write(self._directory / name, text)
        saved.write(candidate, files.config)
        await process.check(self._program, candidate)
        candidate.replace(self.config)
