"""Who has a port: whether an address can be listened on, and if not, which program is in the way (Linux /proc)."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from appliance.errors import RouterError, UsageError
from appliance.router.render import Bind

_PROC = Path("/proc")
_LISTEN, _ESTABLISHED = "0A", "01"


class Place(StrEnum):
    FREE = "free"
    TAKEN = "port in use"
    ABSENT = "no such address on this machine"
    DENIED = "not allowed to use this port"


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def parse_bind(text: str) -> Bind:
    """`172.18.0.1:7070` or `[fd00::1]:7070`. Raises UsageError."""
    match = re.fullmatch(r"\[?([0-9A-Fa-f.:]+)\]?:(\d{1,5})", text)
    try:
        if match is None or not 0 < int(match[2]) < 65536:
            raise ValueError
        return Bind(str(ipaddress.ip_address(match[1])), int(match[2]))
    except ValueError:
        raise UsageError(f"{text!r} is not ADDRESS:PORT", hint="such as 172.18.0.1:7070") from None


def resolve(host: str, port: int) -> Bind:
    """The address behind a name, IPv4 first. Raises RouterError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise RouterError(
            f"{host!r} is not an address: {error}", hint="set APPLIANCE_HOST to an address of this machine"
        ) from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return Bind(str(found[0][4][0]), port)


def probe(bind: Bind) -> Place:
    """Tries to listen there for a moment."""
    family = socket.AF_INET6 if ":" in bind.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        # Connections that have ended must not count; a listener does in any case.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((bind.address, bind.port))
            attempt.listen(1)
        except OSError as error:
            places = {errno.EADDRINUSE: Place.TAKEN, errno.EACCES: Place.DENIED, errno.EPERM: Place.DENIED}
            return places.get(error.errno or 0, Place.ABSENT)
    return Place.FREE


def covers(wide: Bind, narrow: Bind) -> bool:
    """Whether a listener at `wide` answers at `narrow` too."""
    if wide.port != narrow.port:
        return False
    return wide.address in (narrow.address, "0.0.0.0", "::")


def holder(bind: Bind) -> Holder | None:
    """The program that listens there. None: nobody, or nobody we may look at."""
    inodes = {
        row.inode
        for row in _sockets(_PROC / "self")
        if row.state == _LISTEN and row.local_port == bind.port and _same(row.local_address, bind.address)
    }
    if not inodes:
        return None
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and inodes & _open_sockets(entry):
            return Holder(int(entry.name), _name(entry))
    return None


def listens(pid: int) -> bool:
    """Whether a process has a listening TCP socket."""
    process = _PROC / str(pid)
    own = _open_sockets(process)
    return any(row.state == _LISTEN and row.inode in own for row in _sockets(process))


def connections(pid: int, port: int) -> int:
    """Established connections of a process to this port of any address; 0 once the process is gone."""
    process = _PROC / str(pid)
    own = _open_sockets(process)
    return sum(row.state == _ESTABLISHED and row.remote_port == port and row.inode in own for row in _sockets(process))


def connected(pid: int) -> Mapping[int, int]:
    """Established connections of a process by the port at the other end; none once the process is gone."""
    process = _PROC / str(pid)
    own = _open_sockets(process)
    return Counter(row.remote_port for row in _sockets(process) if row.state == _ESTABLISHED and row.inode in own)


@dataclass(frozen=True, slots=True)
class _Row:
    local_address: str
    local_port: int
    remote_port: int
    state: str
    inode: str


def _sockets(process: Path) -> Iterator[_Row]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (process / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            address, _, port = words[1].partition(":")
            remote_port = words[2].partition(":")[2]
            yield _Row(_address(address), int(port, 16), int(remote_port, 16), words[3], words[9])


def _address(digits: str) -> str:
    """The kernel prints each 32-bit word in the machine's byte order."""
    packed = bytes.fromhex(digits)
    words = (packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    return str(ipaddress.ip_address(b"".join(words)))


def _same(listening: str, wanted: str) -> bool:
    wide = ("0.0.0.0", "::")
    return listening == wanted or listening in wide or wanted in wide


def _open_sockets(process: Path) -> set[str]:
    """Inodes of the sockets a process has open; empty where it is gone or not ours to look at."""
    try:
        descriptors = os.listdir(process / "fd")
    except OSError:
        return set()
    found = set()
    for descriptor in descriptors:
        with suppress(OSError):  # closed meanwhile
            target = os.readlink(process / "fd" / descriptor)
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program"
