"""HAProxy's Runtime API: one command, one short connection on its admin socket."""

from __future__ import annotations

import asyncio
import csv
import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import RouterError
from appliance.router.render import ROUTES_MAP
from appliance.router.sync import Observed, Server

log = logging.getLogger(__name__)

_SLOT = re.compile(r"slot-(\d+)")
_CONTROL = re.compile(r"[\x00-\x1f;]")  # what would end a command and begin another
_NEXT_STEP = "`appliance status` says whether the front door runs"


class Gone(RouterError):
    """Nobody listens on the admin socket: HAProxy does not run."""


@dataclass(frozen=True, slots=True)
class Info:
    pid: int
    version: str
    digest: str
    """Of the configuration it was started with; see render.py."""


class Runtime:
    def __init__(self, socket: Path, *, timeout_s: float = 5.0) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    async def ask(self, command: str) -> str:
        """The answer's text. Raises Gone, or RouterError where a running HAProxy does not answer in time."""
        if _CONTROL.search(command):
            raise RouterError(f"not one command: {command!r}", hint="this is a bug in the appliance; please report it")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(command)
        except (FileNotFoundError, ConnectionError) as error:
            raise Gone("HAProxy does not run", where=str(self._socket), hint=_NEXT_STEP) from error
        except (OSError, TimeoutError) as error:
            raise RouterError(
                f"HAProxy runs but does not answer: {str(error) or 'no word in time'}",
                where=str(self._socket),
                hint="the machine may be overloaded; if it stays so, end it with `appliance stop --all`",
            ) from error

    async def _ask(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(f"{command}\n".encode())
            return (await reader.read(-1)).decode(errors="replace").strip()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def info(self) -> Info | None:
        """None: no HAProxy runs here."""
        try:
            text = await self.ask("show info")
        except Gone:
            return None
        return parse_info(text)

    async def observe(self) -> Observed:
        stat = await self.ask("show stat -1 4 -1")
        entries = await self.ask(f"show map {ROUTES_MAP}")
        return Observed(parse_servers(stat), parse_map(entries))

    async def run(self, commands: Iterable[str]) -> None:
        """In order. A refusal is logged and not an error here: whether the commands had their effect is observed."""
        for command in commands:
            answer = await self.ask(command)
            log.debug("%s: %s", command, answer or "ok")


def parse_info(text: str) -> Info | None:
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    if not fields.get("Pid", "").isdigit():
        return None
    digest = fields.get("description", "").removeprefix("appliance-")
    return Info(int(fields["Pid"]), fields.get("Version", "").split("-")[0], digest)


def parse_servers(text: str) -> list[Server]:
    """Servers of the slots from `show stat`, whose first line names its hundred columns."""
    rows = csv.reader(text.removeprefix("# ").splitlines())
    places = {name: place for place, name in enumerate(next(rows, []))}
    servers = []
    for row in rows:
        if (slot := _SLOT.fullmatch(row[places["pxname"]])) is None:
            continue
        servers.append(
            Server(
                slot=int(slot[1]),
                id=row[places["svname"]],
                port=int(row[places["addr"]].rpartition(":")[2] or 0),
                state=_state(row[places["status"]]),
                sessions=int(row[places["scur"]] or 0),
                queued=int(row[places["qcur"]] or 0),
            )
        )
    return servers


def _state(status: str) -> str:
    words = {"MAINT": "maint", "DRAIN": "drain"}
    return words.get(status.split(" ")[0], "ready")


def parse_map(text: str) -> dict[str, str]:
    """Lines of `ADDRESS KEY VALUE`."""
    rows = (line.split(" ", 2) for line in text.splitlines() if line and not line.startswith("#"))
    return {row[1]: row[2] for row in rows if len(row) == 3}
