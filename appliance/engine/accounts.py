"""A name for a user that an image does not know, so that ssh, git over it, `id` and a shell's prompt work for it."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

import docker
import docker.errors

PASSWD, GROUP = "/etc/passwd", "/etc/group"
MOST_BYTES = 1 << 20
"""Of one of the image's files; a larger one is left as it is."""
SHELL = "/bin/sh"
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int
    name: str
    """Of both user and group; made another one where it is taken."""
    home: str


def known(account: Account, passwd: str, group: str) -> dict[str, str]:
    """Those of the two files that lack the account, with it: path -> content. Pure."""
    found = {}
    if account.uid not in _numbers(passwd):
        name = _free(account.name, account.uid, passwd)
        found[PASSWD] = _added(passwd, f"{name}:x:{account.uid}:{account.gid}:{name}:{account.home}:{SHELL}")
    if account.gid not in _numbers(group):
        found[GROUP] = _added(group, f"{_free(account.name, account.gid, group)}:x:{account.gid}:")
    return found


def write(api: docker.APIClient, container: str, account: Account) -> None:
    """Into a container that has not been started. Blocking; raises what the engine's library raises."""
    old = {path: _read(api, container, path) for path in (PASSWD, GROUP)}
    passwd, group = old[PASSWD], old[GROUP]
    if passwd is None or group is None:
        return
    if new := known(account, passwd, group):
        api.put_archive(container, "/", _archive(new))


def _read(api: docker.APIClient, container: str, path: str) -> str | None:
    """Empty: there is none. None: it is not to be touched. The content is the image's, so hostile."""
    try:
        chunks, found = api.get_archive(container, path)
    except docker.errors.NotFound:
        return ""
    if found.get("linkTarget") or int(found.get("size", 0)) > MOST_BYTES:
        return None
    data = _bounded(chunks)
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            entry = archive.next()
            file = archive.extractfile(entry) if entry is not None and entry.isreg() else None
            return None if file is None else file.read().decode("utf-8", "surrogateescape")
    except tarfile.TarError:
        return None


def _bounded(chunks: Iterable[bytes]) -> bytes:
    data = b""
    for chunk in chunks:
        data += chunk
        if len(data) > 2 * MOST_BYTES:
            break
    return data


def _archive(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, text in files.items():
            data = text.encode("utf-8", "surrogateescape")
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _numbers(text: str) -> set[int]:
    fields = [line.split(":") for line in text.splitlines()]
    return {int(one[2]) for one in fields if len(one) > 2 and _NUMBER.fullmatch(one[2])}


def _free(name: str, number: int, text: str) -> str:
    taken = {line.partition(":")[0] for line in text.splitlines()}
    return f"{name}{number}" if name in taken else name


def _added(text: str, line: str) -> str:
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"
