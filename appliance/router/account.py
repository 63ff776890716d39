"""Under which account HAProxy serves.

Started by root it changes to the distribution's `haproxy` account, so that a fault in it is not a fault of root's. It
is not put in a chroot: it must reach the daemon's socket, which is why every directory above that socket must let
others pass (mode 0711 is enough) and the socket itself must let others write (it demands the token).
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "haproxy"


@dataclass(frozen=True, slots=True)
class Account:
    user: str = ""
    """Empty: the account that starts HAProxy."""
    group: str = ""
    problem: str = ""
    """Why root has to serve by itself."""


def choose(api_socket: Path) -> Account:
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwnam(ACCOUNT)
        group = grp.getgrgid(entry.pw_gid).gr_name
    except KeyError:
        return Account(problem=f"HAProxy runs as root: there is no account {ACCOUNT!r}")
    if closed := _closed_directory(api_socket, entry.pw_uid, entry.pw_gid):
        return Account(problem=f"HAProxy runs as root: {closed} lets no other account pass (chmod 0711 opens it)")
    return Account(ACCOUNT, group)


def give(socket: Path) -> None:
    """A socket that is its owner's alone becomes that of the account under which HAProxy serves."""
    if name := choose(socket).user:
        os.chown(socket, pwd.getpwnam(name).pw_uid, -1)


def _closed_directory(path: Path, uid: int, gid: int) -> Path | None:
    """The first directory above `path` that this account may not pass; one that is not there yet does not count."""
    for directory in reversed(path.parents):
        try:
            status = directory.stat()
        except FileNotFoundError:
            return None
        if not _may_pass(status, uid, gid):
            return directory
    return None


def _may_pass(status: os.stat_result, uid: int, gid: int) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
