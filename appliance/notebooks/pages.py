"""The address of one notebook in a repository, as a forge's page shows it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

_PAGE = re.compile(r"(?P<repository>/.+?)(?:/-)?/(?:blob|raw)/(?P<rest>[^/]+/.+\.ipynb)")
"""GitHub writes `/blob/BRANCH/FILE`, GitLab `/-/blob/BRANCH/FILE`."""


@dataclass(frozen=True, slots=True)
class Page:
    url: str
    """Of the repository."""
    ref: str
    file: str
    """Path in the repository."""


def parse(url: str, ref: str = "") -> Page | None:
    """None: it is the address of a whole repository.

    A branch with a `/` in its name cannot be told from a folder: where `ref` names it, that is the branch.
    """
    parts = urlsplit(url)
    found = _PAGE.fullmatch(parts.path)
    if found is None:
        return None
    rest = unquote(found["rest"])
    if ref and rest.startswith(f"{ref}/"):
        branch, file = ref, rest.removeprefix(f"{ref}/")
    else:
        branch, _, file = rest.partition("/")
    return Page(urlunsplit(parts._replace(path=found["repository"], query="", fragment="")), ref or branch, file)
