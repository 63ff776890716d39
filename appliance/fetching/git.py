"""What of a repository is cloned, from where and into which folder of a container. Pure; `inside.git_checkout` does it.

From a server over https, http or git; where the caller says so also one of this machine, which is bound into the
container, read-only, and one over SSH, for which `password` is a private key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

from appliance.errors import UsageError
from appliance.fetching import programs
from appliance.fetching.programs import TOLD
from appliance.spec.address import Way

IMAGE = "appliance/base"
PROGRAM = "git_checkout"
COMMIT_FILE = "commit"
"""In which the program tells what was checked out."""
BOUND = "/run/appliance-repository"
"""Where a repository of this machine is bound."""
GIT_CONFIG, SSH_KEY, SSH_KNOWN = ".gitconfig", "ssh-key", "ssh-known-hosts"
"""Private files that are there beside the program's own, for the one way and for the other."""
PROTOCOLS = ("https", "http", "git")
DEFAULT_USER = "x-access-token"
"""Goes with a token where no user name is given; the large forges accept any."""
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
"""A whole commit hash as git prints it."""


class Place(Protocol):
    """A folder of this machine as it was seen."""

    @property
    def device(self) -> int: ...
    @property
    def inode(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Checkout:
    url: str
    """Without credentials: it is written into the repository."""
    ref: str
    """Branch, tag or commit; empty: the default branch."""
    target: str
    """Directory in the container."""
    username: str = ""
    """From the address, as is the password; empty where it has none."""
    password: str = field(default="", repr=False)
    origin: str = ""
    """`scheme://host[:port]`: the only server that is given the credentials; empty for one of this machine or SSH."""
    way: Way = "http"


def files_of(
    checkout: Checkout,
    username: str,
    password: str,
    *,
    commit: str = "",
    place: Place | None = None,
    known_hosts: str = "",
    lean: bool = False,
    asks: str = "",
) -> dict[str, str]:
    """File name -> content for the private mount. Raises UsageError for credentials that git cannot carry.

    `commit`: what the ref meant in the run that this one repeats, and what is checked out in its place. A ref that is
    a commit itself needs none. `place`: what is bound at `BOUND`, for a repository of this machine.
    `known_hosts`: the keys of a server over SSH: one with another key is refused.
    `lean`: git's own copies of large files go once they are checked out.
    `asks`: what a person can do where the server asks who is there, and no password was given.
    """
    more: dict[str, str] = {}
    if checkout.way == "local":
        if place is None:
            raise UsageError(f"`url` is a path of this machine that this job is not given: {checkout.url}")
        username = password = ""
        more = {GIT_CONFIG: "[safe]\n\tdirectory = *\n"}
    elif checkout.way == "ssh":
        more = {SSH_KEY: password.strip() + "\n", SSH_KNOWN: known_hosts}
        username = password = ""
    if not username and not password:
        username, password = checkout.username, checkout.password
        if username and not password:  # `https://TOKEN@host/...`
            username, password = "", username
    if re.search(r"[\x00\r\n]", username + password):
        raise UsageError("user name and password must be one line each", hint="set the secret again without a line end")
    request: dict[str, object] = {
        "url": checkout.url,
        "ref": checkout.ref,
        "commit": "" if COMMIT.fullmatch(checkout.ref.lower()) else commit,
        "told": f"{TOLD}/{COMMIT_FILE}",
        "target": checkout.target,
        "origin": checkout.origin,
        "protocols": ":".join((*PROTOCOLS, "ssh") if checkout.way == "ssh" else PROTOCOLS),
        "bound": {"path": BOUND, "device": place.device, "inode": place.inode} if place else None,
        "username": username or DEFAULT_USER,
        "password": password,
    }
    if lean:
        request["lean"] = True
    if asks:
        request["asks"] = asks
    return programs.files_of(PROGRAM, request) | more
