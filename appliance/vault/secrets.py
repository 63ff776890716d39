"""Named secrets, sealed at rest. Values leave this room only to a container that is about to start.

Sealed with Fernet (AES-128-CBC and HMAC-SHA256 of the `cryptography` package); the key lies in a 0600 file beside
the state file, so a copy of the state file alone tells nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from appliance.errors import ApplianceError, NotFound, UsageError
from appliance.state import events, sealed
from appliance.state.db import Database

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
LONGEST_VALUE = 8192
REFERENCE = re.compile(r"secret:(?P<name>\S+)", re.IGNORECASE)
SHORTEST_REDACTED = 4
"""Shorter values stand in too many innocent lines to be blanked there."""


class Secrets:
    """Name rule and sizes as in Gradient: a letter, then letters, digits and `_`; values of 1 to 8192 characters."""

    def __init__(self, db: Database, key_file: Path, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock
        key = _key(key_file)
        self._box = Fernet(key)
        self._seal = hmac.new(key, b"fingerprint", hashlib.sha256).digest()
        self._key_file = key_file
        self._values: tuple[str, ...] = ()
        self._read_values()

    def set(self, name: str, value: str) -> None:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"not a secret name: {name!r}", hint="one of the letters a-z and A-Z, then those, digits and _"
            )
        if not 1 <= len(value) <= LONGEST_VALUE:
            raise UsageError(f"the value must have 1 to {LONGEST_VALUE} characters, not {len(value)}", where=name)
        now = self._clock()
        with self._db.write() as db:
            sealed.put(db, name, self.seal(value), now=now)
            events.record(db, "secret", name, "Set", "the value was set", now=now)
        self._read_values()

    def delete(self, name: str) -> None:
        with self._db.write() as db:
            if not sealed.delete(db, name):
                raise NotFound(f"no secret named {name!r}", hint="`appliance secret list` lists the names")
            events.record(db, "secret", name, "Deleted", "the value is gone", now=self._clock())
        self._read_values()

    def names(self) -> list[tuple[str, float]]:
        """Names and the times they were set."""
        return sealed.names(self._db.read)

    def reveal(self, name: str) -> str:
        box = sealed.find(self._db.read, name)
        if box is None:
            raise NotFound(f"no secret named {name!r}", hint=f"`appliance secret set {name}` asks for the value")
        value = self.unseal(box)
        if value is None:
            raise ApplianceError(
                f"secret {name!r} cannot be opened with the key in {self._key_file}",
                hint=f"put the right key back, or set the value again: `appliance secret set {name}`",
            )
        return value

    def resolve(self, text: str) -> str:
        """The secret's value for `secret:NAME` (letter case of the prefix ignored), else `text` itself."""
        reference = REFERENCE.fullmatch(text)
        return self.reveal(reference["name"]) if reference else text

    def resolve_line(self, text: str) -> str:
        """The same for what is sent in a header. Raises UsageError where no client could: it would let nobody in."""
        value = self.resolve(text)
        if any(ord(sign) < 0x20 or ord(sign) == 0x7F for sign in value) or value != value.strip(" "):
            what = f"the value of {text!r}" if REFERENCE.fullmatch(text) else "a key or password"
            raise UsageError(
                f"{what} cannot be sent in a header: it has a line break or another control character in it, or"
                " begins or ends with a space",
                hint="set it again without: `printf %s VALUE | appliance secret set NAME`",
            )
        return value

    def seal(self, text: str) -> bytes:
        """To be kept elsewhere; `unseal` gives it back."""
        return self._box.encrypt(text.encode())

    def unseal(self, sealed: bytes) -> str | None:
        """None: another key has sealed it."""
        try:
            return self._box.decrypt(sealed).decode()
        except InvalidToken:
            return None

    def fingerprint(self, text: str) -> str:
        """Equal for equal texts, and tells nothing of them to whoever has not the key: 64 hex digits."""
        return hmac.new(self._seal, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def values(self) -> tuple[str, ...]:
        """All values worth blanking in logs. Safe from any thread."""
        return self._values

    def _read_values(self) -> None:
        revealed: list[str] = []
        for name, _ in self.names():
            try:
                revealed.append(self.reveal(name))
            except ApplianceError as error:
                log.warning("%s", error)
        self._values = tuple(value for value in revealed if len(value) >= SHORTEST_REDACTED)


def _key(path: Path) -> bytes:
    """The key in `path`, made there at the first use; never seen half written or by others."""
    if not path.exists():
        temporary = path.with_name(path.name + ".making")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    return path.read_bytes().strip()
