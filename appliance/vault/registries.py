"""Logins at image registries, each with a name that a spec uses: `containerRegistry`, `container-registries`.

The password is sealed as a secret is. It goes to the registry's own server and to no other: a spec that names a login
and an image from elsewhere gets the image without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from urllib.parse import urlsplit

from appliance.engine.pull import Login, server_of
from appliance.errors import NotFound, UsageError
from appliance.spec.names import NAME, NAME_RULE
from appliance.state import events, registries, resources, rollouts
from appliance.state.db import Connection, Database
from appliance.state.registries import Registry
from appliance.vault.secrets import Secrets

LONGEST_URL = 512
LONGEST_USERNAME = 256
LONGEST_PASSWORD = 16_384
"""A key of a cloud, as JSON, takes a few thousand."""
HUB = "docker.io"
_HUB_NAMES = frozenset({HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com"})
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_PORTS = {"https": 443, "http": 80}
"""Which an image's name does not carry."""
_URL_HINT = "such as https://ghcr.io, https://index.docker.io/v1/ or gcr.io/my-project"


class Registries:
    def __init__(self, db: Database, secrets: Secrets, clock: Callable[[], float]) -> None:
        self._db = db
        self._secrets = secrets
        self._clock = clock

    def set(self, name: str, *, url: str, username: str, password: str) -> list[str]:
        """Another one of this name is replaced. The answer is the uids of what waits for its image with it."""
        if not NAME.fullmatch(name):
            raise UsageError(f"not a registry's name: {name!r}", hint=f"use {NAME_RULE}")
        place(url)
        if not 1 <= len(username) <= LONGEST_USERNAME or not username.isprintable() or ":" in username:
            raise UsageError("not a user name: it must be one line without `:`", where=name)
        if not 1 <= len(password) <= LONGEST_PASSWORD:
            raise UsageError(
                f"the password must have 1 to {LONGEST_PASSWORD} characters, not {len(password)}", where=name
            )
        now = self._clock()
        with self._db.write() as db:
            registries.put(db, Registry(name, url, username, self._secrets.seal(password), now))
            message = f"the login as {username} at {url} was set"
            events.record(db, "registry", name, "Set", message, now=now)
            waiting = list(_waiting(db, name))
            for uid in waiting:
                resources.ask_again(db, uid, now=now)
        return waiting

    def delete(self, name: str) -> None:
        with self._db.write() as db:
            if not registries.delete(db, name):
                raise NotFound(f"no registry named {name!r}", hint="`appliance registry list` lists the names")
            events.record(db, "registry", name, "Deleted", "the login is gone", now=self._clock())

    def every(self) -> list[Registry]:
        return list(registries.every(self._db.read))

    def login(self, names: Collection[str], ref: str) -> Login:
        """What is sent to the registry of the image `ref`, of the logins that a spec names."""
        if not names:
            return Login()
        server, _, repository = server_of(ref).partition("/")
        found = [one for name in names if (one := registries.find(self._db.read, name))]
        fitting = [(place(one.url), one) for one in found]
        fitting = [(where, one) for where, one in fitting if where[0] == server]
        if not fitting:
            return Login(refused=_why_none(names, found, server))
        # A server may hold several projects, each with a login of its own: the one that the image is below.
        _, best = max(fitting, key=lambda pair: _nearness(pair[0][1], repository))
        password = self._secrets.unseal(best.sealed)
        if password is None:
            return Login(refused=f"the password of registry {best.name!r} cannot be read: {_again(best)}")
        return Login(
            auth={"username": best.username, "password": password, "serveraddress": server},
            refused=f"registry {best.name!r} does not let {best.username} have it: {_again(best)}",
        )


def place(url: str) -> tuple[str, str]:
    """Server, as an image's name has it, and the path below it. Raises UsageError."""
    wrong = UsageError("not the address of a registry" + (": it holds a login" if "@" in url else ""), hint=_URL_HINT)
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        port = parts.port
    except ValueError:
        raise wrong from None
    server, path = parts.netloc.lower(), parts.path.strip("/")
    if port == _PORTS.get(parts.scheme):
        server = server.removesuffix(f":{port}")
    if parts.scheme not in ("http", "https") or port == 0 or not _HOST.fullmatch(server):
        raise wrong
    if parts.query or parts.fragment or len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        raise wrong
    return (HUB if server in _HUB_NAMES else server), ("" if re.fullmatch(r"v[0-9]+", path) else path)


def _waiting(db: Connection, name: str) -> Iterator[str]:
    """Deployments and notebooks that name it and do not know their image yet."""
    for found in resources.every(db, "notebook"):
        wanted = found.desired == "running" and not found.deleting and not found.status.get("container")
        if wanted and found.spec.get("containerRegistry") == name:
            yield found.uid
    for found in resources.every(db, "deployment"):
        if found.spec.get("containerRegistry") == name and not found.deleting:
            row = rollouts.find(db, found.uid, found.generation)
            if row is None or row.pin is None:
                yield found.uid


def _nearness(path: str, repository: str) -> int:
    """More for the login that is meant rather; -1 where it is another project's, which may have a say there too."""
    return len(path) if not path or f"{repository}/".startswith(f"{path}/") else -1


def _why_none(names: Collection[str], found: Collection[Registry], server: str) -> str:
    known = {one.name for one in found}
    missing = [name for name in names if name not in known]
    if missing:
        return f"there is no registry named {missing[0]!r}: `appliance registry add {missing[0]}`"
    places = ", ".join(f"{one.name!r} is at {place(one.url)[0]}" for one in found)
    return f"the image is at {server}, and registry {places}: it was asked for without a login"


def _again(registry: Registry) -> str:
    return f"`appliance registry add {registry.name} --url {registry.url} --username NAME` asks for it again"
