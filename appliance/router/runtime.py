"""HAProxy's Runtime API: short connections on its admin socket."""

from __future__ import annotations

import asyncio
import csv
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import RouterError
from appliance.router.maps import MAPS, slot_name, slot_number
from appliance.router.sync import Observed, Server

log = logging.getLogger(__name__)

_CONTROL = re.compile(r"[\x00-\x1f;]")  # what would end a command and begin another
_POINTER = "0x"
_BATCH = 32  # commands in one line; HAProxy reads a line of at most a buffer
_NEXT_STEP = "`appliance status` says whether the front door runs"


class Gone(RouterError):
    """Nobody listens on the admin socket: HAProxy does not run."""


@dataclass(frozen=True, slots=True)
class Info:
    pid: int
    version: str
    digest: str
    """Of the configuration it was started with; see render.py."""
    language: int = 0
    """In which it was configured; 0: an earlier one than any that is known."""


class Runtime:
    def __init__(self, socket: Path, *, timeout_s: float = 5.0) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    async def ask(self, *commands: str) -> str:
        """The answers' text. Raises Gone, or RouterError where a running HAProxy does not answer in time."""
        for command in commands:
            if _CONTROL.search(command):
                raise RouterError(
                    f"not one command: {command!r}", hint="this is a bug in the appliance; please report it"
                )
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(";".join(commands))
        except (FileNotFoundError, ConnectionError) as error:
            raise Gone("HAProxy does not run", where=str(self._socket), hint=_NEXT_STEP) from error
        except (OSError, TimeoutError) as error:
            raise RouterError(
                f"HAProxy runs but does not answer: {str(error) or 'no word in time'}",
                where=str(self._socket),
                hint="the machine may be overloaded; if it stays so, end it with `appliance stop --all`",
            ) from error

    async def _ask(self, line: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(f"{line}\n".encode())
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
        servers = parse_servers(await self.ask("show stat -1 4 -1"))
        return Observed(servers, {name: parse_map(await self.ask(f"show map {name}")) for name in MAPS})

    async def present(self) -> set[int]:
        """Slots that requests have come to: with a server, in a queue or held."""
        return parse_present(await self.ask("show stat -1 2 -1"))

    async def figures(self, slots: Sequence[int]) -> str:
        """`show stat` of these slots and their servers, one after the other, each with its line of columns."""
        asked = [f"show stat {slot_name(slot)} 6 -1" for slot in slots]
        return "\n".join([await self.ask(*asked[at : at + _BATCH]) for at in range(0, len(asked), _BATCH)])

    async def run(self, commands: Sequence[str]) -> None:
        """In order. A refusal is not an error here: whether the commands had their effect is observed."""
        for at in range(0, len(commands), _BATCH):
            batch = commands[at : at + _BATCH]
            answer = await self.ask(*batch)
            log.debug("%s: %s", "; ".join(batch), " ".join(answer.split()) or "ok")


def parse_info(text: str) -> Info | None:
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    if not fields.get("Pid", "").isdigit():
        return None
    digest, _, language = fields.get("description", "").removeprefix("appliance-").partition("/")
    version = fields.get("Version", "").split("-")[0]
    return Info(int(fields["Pid"]), version, digest, int(language) if language.isdecimal() else 0)


def parse_servers(text: str) -> list[Server]:
    """Servers of the slots from `show stat`, whose first line names its hundred columns."""
    places, rows = _statistics(text)
    servers = []
    for row in rows:
        if (slot := slot_number(row[places["pxname"]])) is None:
            continue
        servers.append(
            Server(
                slot=slot,
                id=row[places["svname"]],
                address=row[places["addr"]].rpartition(":")[0],
                port=int(row[places["addr"]].rpartition(":")[2] or 0),
                state=_state(row[places["status"]]),
                sessions=int(row[places["scur"]] or 0),
                queued=int(row[places["qcur"]] or 0),
            )
        )
    return servers


def parse_present(text: str) -> set[int]:
    """Slots with sessions from `show stat`."""
    places, rows = _statistics(text)
    found = ((slot_number(row[places["pxname"]]), row[places["scur"]]) for row in rows)
    return {slot for slot, sessions in found if slot is not None and sessions not in ("", "0")}


def _statistics(text: str) -> tuple[dict[str, int], list[list[str]]]:
    """Column -> place, and the rows."""
    columns, *rows = list(csv.reader(text.removeprefix("# ").splitlines())) or [[]]
    return {name: place for place, name in enumerate(columns)}, [row for row in rows if len(row) == len(columns)]


def _state(status: str) -> str:
    """Of words such as `UP`, `DOWN 1/2`, `MAINT (resolution)` and `no check`."""
    words = {"MAINT": "maint", "DRAIN": "drain", "DOWN": "down", "no": "unchecked"}
    return words.get(status.split(" ")[0], "ready")


def parse_map(text: str) -> dict[str, str]:
    """Lines of `ADDRESS KEY VALUE` from `show map`."""
    rows = (line.split(" ", 2) for line in text.splitlines() if line.startswith(_POINTER))
    return {row[1]: row[2] for row in rows if len(row) == 3}
