"""Which keys of a server over SSH count, in polling and so in the jobs of its runs, which get what polling went by.

What this machine's administrator has written of the server into `MACHINE` counts first: where a key of it stands there,
no other one is taken. Else it is what the first contact has brought. Lines of certificate authorities and of revoked
keys there count besides. A server of which nothing is known yet is met for the first time, and its keys are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.spec.address import Address

MACHINE = Path("/etc/ssh/ssh_known_hosts")
LARGEST = 1 << 20
"""Bytes of what is known of one server."""
_AUTHORITY = "@cert-authority"
_PORT = 22


@dataclass(frozen=True, slots=True)
class Expected:
    text: str = ""
    """In the form of a `known_hosts` file."""
    strict: bool = False
    """A server with another key is refused, also where the key is of another kind."""
    pinned: bool = False
    """The administrator has said so."""

    @property
    def checking(self) -> str:
        """ssh's `StrictHostKeyChecking`."""
        return "yes" if self.strict else "accept-new"


def name_of(where: Address) -> str:
    """As ssh looks a server up."""
    host = where.host.lower()
    return host if where.port in (None, _PORT) else f"[{host}]:{where.port}"


def expected(machine: str, kept: str) -> Expected:
    """`machine` and `kept`: the lines of this server, there and from earlier contacts."""
    told, known = _lines(machine), _lines(kept)
    pinned = any(_is_key(line) for line in told)
    lines = told if pinned else [*told, *(line for line in known if _is_key(line))]
    met = any(_is_key(line) or (line.startswith(_AUTHORITY) and line in known) for line in lines)
    return Expected("".join(f"{line}\n" for line in dict.fromkeys(lines)), met, pinned)


def _lines(text: str) -> list[str]:
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _is_key(line: str) -> bool:
    return not line.startswith("@")
