"""The error tree. Every error says what happened, where, and the next step.

ApplianceError
├── UsageError          the caller's request makes no sense as it stands
│   ├── SpecError       a spec has problems; carries all of them, each with file:line:column
│   └── TooLarge        a request is larger than the API takes
├── NotFound            no such resource, version, run or file
├── Conflict            the request clashes with what exists or runs
├── Forbidden           no token, a wrong token, or not allowed
├── Unavailable         something the request needs does not answer
│   ├── DaemonDown      the daemon cannot be reached (raised by the client)
│   └── EngineDown      the Docker engine cannot be reached
├── EngineError         the Docker engine refused
│   ├── ImageNotFound   the image is not here, and cannot be had now
│   │   └── NoSuchImage its registry has answered: there is none, or none for us
│   └── GpuRefused      a container cannot be given its GPUs as this machine is now
├── StorageError        a volume operation failed
│   └── NoSpace         the disk or the quota is full
├── RouterError         the front door refused its configuration or does not answer
└── TelemetryError      the log and metric store failed

A class fixes `code` (stable, crosses the wire), `status` (HTTP) and `exit_code` (CLI).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class ApplianceError(Exception):
    """Base of every error a user may see. `hint` is the next step, `where` the file, resource or call."""

    code = "failed"
    status = 500
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  next: {self.hint}" if self.hint else text


class UsageError(ApplianceError):
    code, status, exit_code = "usage", 400, 2


class Problem(NamedTuple):
    """One mistake in a spec. `line` and `column` count from 1; 0 means the place is not known."""

    file: str
    line: int
    column: int
    path: str
    """Dotted path inside the document, such as `jobs.train.with.args[2]`; empty for the whole file."""
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        path = f"{self.path}: " if self.path else ""
        return f"{place}: {path}{self.message}" + (f" ({self.hint})" if self.hint else "")

    def to_json(self) -> dict[str, object]:
        return self._asdict()


class SpecError(UsageError):
    """All problems of a spec at once."""

    code, status, exit_code = "invalid_spec", 422, 1

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems) or "invalid spec")


class TooLarge(UsageError):
    code, status = "too_large", 413


class NotFound(ApplianceError):
    code, status, exit_code = "not_found", 404, 3


class Conflict(ApplianceError):
    code, status, exit_code = "conflict", 409, 4


class Forbidden(ApplianceError):
    code, status, exit_code = "forbidden", 401, 1


class Unavailable(ApplianceError):
    code, status, exit_code = "unavailable", 503, 1


class TooMany(Unavailable):
    code, status = "too_many", 429


class DaemonDown(Unavailable):
    code, exit_code = "daemon_down", 5


class EngineDown(Unavailable):
    code = "engine_down"


class EngineError(ApplianceError):
    code, status = "engine", 502


class GpuRefused(EngineError):
    """The fault is the machine's and not the spec's: what asked for them waits until it is cured."""

    code, status = "gpu_refused", 503


class ImageNotFound(EngineError):
    code, status = "image_not_found", 422


class NoSuchImage(ImageNotFound):
    """To ask again later would bring the same answer."""


class StorageError(ApplianceError):
    code = "storage"


class NoSpace(StorageError):
    code, status = "no_space", 507


class RouterError(ApplianceError):
    code, status = "router", 502


class TelemetryError(ApplianceError):
    code = "telemetry"


def all_errors() -> dict[str, type[ApplianceError]]:
    """`code` -> class, for rebuilding an error on the client's side of the wire."""
    found: dict[str, type[ApplianceError]] = {}
    pending: list[type[ApplianceError]] = [ApplianceError]
    while pending:
        cls = pending.pop()
        found.setdefault(cls.code, cls)
        pending.extend(cls.__subclasses__())
    return found
