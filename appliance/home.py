"""The daemon's home: its folders, its id and token, and the lock that keeps a second daemon out."""

from __future__ import annotations

import fcntl
import grp
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

from appliance.errors import ApplianceError, Conflict
from appliance.settings import Settings

LOCK_S = 5.0
"""How long the lock of a daemon that is gone is waited for."""
RESTORING = "restoring.json"
"""File in a home whose restore from a backup has not ended."""


def prepare(settings: Settings) -> None:
    """Make the folders. Others may pass through the home to the sockets, and read nothing."""
    try:
        for folder in (settings.home, settings.run_dir):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o711)
        for folder in (settings.volumes_dir, settings.router_dir):
            folder.mkdir(exist_ok=True)
        settings.specs_dir.mkdir(exist_ok=True)
    except OSError as error:
        raise ApplianceError(
            f"the home folder cannot be used: {error.strerror}",
            where=str(error.filename or settings.home),
            hint="run as a user who may write there, or set APPLIANCE_HOME",
        ) from None


def check_whole(settings: Settings) -> None:
    """Raises Conflict for a home that a restore has only begun to fill: a daemon would take it for empty."""
    if (settings.home / RESTORING).exists():
        raise Conflict(
            "the restore of this home has not ended",
            where=str(settings.home),
            hint="repeat `appliance restore-backup TARGET`: it goes on from where it was",
        )


class Lock:
    """One daemon at a time on a home. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.pid_file
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if holder := self._take():
            os.close(self._descriptor)
            raise Conflict(
                f"a daemon (process {holder}) runs on this home already",
                where=str(settings.home),
                hint="`appliance stop` ends it; another appliance needs another APPLIANCE_HOME and APPLIANCE_PORT",
            )
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def _take(self) -> str:
        """Empty: it is ours. Else who holds it.

        A killed daemon's lock stays a moment longer where it was just about to start a program.
        """
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return ""
            except BlockingIOError:
                holder = self._path.read_text().strip()
                if _lives(holder) or time.monotonic() > deadline:
                    return holder or "unknown"
            time.sleep(0.02)

    def release(self) -> None:
        """The file stays: removing it would let two daemons lock two files of that name."""
        os.truncate(self._descriptor, 0)
        os.close(self._descriptor)


def _lives(pid: str) -> bool:
    return pid.isdecimal() and Path("/proc", pid).exists()


def running_pid(settings: Settings) -> int | None:
    """The process that holds the lock of this home, if any."""
    try:
        descriptor = os.open(settings.pid_file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text.isdigit() else None
    return None


def instance_id(settings: Settings) -> str:
    """Eight hex digits, made once: they mark this appliance's containers on the engine."""
    return _kept(settings.home / "instance", lambda: secrets.token_hex(4), 0o644)


def origin(settings: Settings) -> str:
    """The instance id of the appliance whose backup this home was restored from, else its own.

    What it writes goes on where that one ended: a backup's target takes points of one origin only.
    """
    return _kept(settings.home / "origin", lambda: instance_id(settings), 0o644)


def api_token(settings: Settings) -> str:
    """The bearer token of the TCP door, made once, readable by the owner only."""
    return _kept(settings.token_file, lambda: secrets.token_hex(24), 0o600)


def listen(path: Path, mode: int) -> socket.socket:
    """A listening unix socket in place of what a dead daemon left. The caller holds the lock of the home."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(temporary))
    except OSError as error:
        listener.close()
        raise ApplianceError(
            f"cannot listen: {error}", where=str(path), hint="a socket's path has at most 107 bytes: use a shorter home"
        ) from None
    temporary.chmod(mode)
    listener.listen(128)
    temporary.rename(path)
    return listener


def share_with_docker_group(path: Path) -> None:
    """Whoever may use Docker is root on this machine already, so the API socket opens to the same group."""
    try:
        os.chown(path, -1, grp.getgrnam("docker").gr_gid)
    except (KeyError, PermissionError):
        path.chmod(0o600)


def _kept(path: Path, make: Callable[[], str], mode: int) -> str:
    if path.exists() and (text := path.read_text().strip()):
        return text
    text = make()
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    return text
