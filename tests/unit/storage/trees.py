"""Trees for the store tests: everything a file system can hold, and a description of it that compares."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from pathlib import Path
from typing import Any

ODD_NAMES = (
    b"new\nline",
    b"quote'\"",
    b"\xff\xfe not utf-8",
    "Ünïcode ☃".encode(),
    b" leading and trailing ",
    b"-rf",
    b"*",
    b"back\\slash",
    b"x" * 255,
)


def fill(root: Path) -> None:
    """One of everything, odd names included."""
    (root / "plain").write_bytes(b"hello\n")
    (root / "mode").write_bytes(b"#!/bin/sh\n")
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "file").write_bytes(os.urandom(100_000))
    os.link(root / "plain", root / "deep" / "hard")
    (root / "dangling").symlink_to("nowhere")
    (root / "outside").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../../..")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.open(root, os.O_RDONLY)  # a socket's path is short, a test's directory may not be
        try:
            unix.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
    with (root / "sparse").open("wb") as file:
        file.seek(4 << 20)
        file.write(b"end")
        file.truncate(8 << 20)
    (root / "empty").touch()
    (root / "empty-dir").mkdir()
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(name)
    if os.geteuid() == 0:
        os.chown(root / "mode", 1234, 5678)
        os.chown(root / "dangling", 1234, 5678, follow_symlinks=False)
        os.chown(root / "deep", 4321, 8765)
    (root / "mode").chmod(0o4751)
    (root / "deep").chmod(0o2750)
    os.utime(root / "plain", ns=(1_000_000_001, 2_000_000_002))
    os.utime(root / "dangling", ns=(3_000_000_003, 4_000_000_004), follow_symlinks=False)
    os.utime(root / "empty-dir", ns=(5_000_000_005, 6_000_000_006))


def set_xattrs(root: Path) -> bool:
    """False: this file system has no user xattrs."""
    try:
        os.setxattr(root / "plain", "user.note", b"kept\0bytes")
        os.setxattr(root / "deep", "user.dir", b"too")
    except OSError:
        return False
    return True


def describe(root: Path) -> dict[str, Any]:
    """Relative path -> everything about the entry that a copy has to keep. Follows no symlink."""
    found: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    for folder, below, _ in os.walk(root):
        below.sort()  # so that the first name of a file is the same one in each copy
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = os.path.relpath(entry.path, root)
            found[path] = _entry(entry.path, path, inodes)
    return found


def _entry(full: str, path: str, inodes: dict[int, str]) -> dict[str, Any]:
    status = os.lstat(full)
    entry: dict[str, Any] = {
        "mode": status.st_mode,
        "owner": (status.st_uid, status.st_gid),
        "modified": status.st_mtime_ns,
        "xattrs": {name: os.getxattr(full, name, follow_symlinks=False) for name in _xattrs(full)},
    }
    if stat.S_ISREG(status.st_mode):
        with open(full, "rb") as file:
            entry["digest"] = hashlib.sha256(file.read()).hexdigest()
        entry["size"] = status.st_size
        entry["same file as"] = inodes.setdefault(status.st_ino, path)
    elif stat.S_ISLNK(status.st_mode):
        entry["to"] = os.readlink(full)
    return entry


def _xattrs(full: str) -> list[str]:
    try:
        return os.listxattr(full, follow_symlinks=False)
    except OSError:
        return []


def write_random(path: Path, size: int) -> None:
    """Bytes that no file system can compress, written out as they come."""
    with path.open("wb", buffering=0) as file:
        for done in range(0, size, 1 << 20):
            file.write(os.urandom(min(1 << 20, size - done)))
            os.fsync(file.fileno())
