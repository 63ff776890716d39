"""A git repository that is polled: our own kind, Gradient links one to a project in its web pages."""

from __future__ import annotations

import re

from appliance.spec import address
from appliance.spec.fields import Fields, read_text
from appliance.spec.models import Repository
from appliance.spec.names import NAME, NAME_RULE
from appliance.spec.notebook import whole_file
from appliance.spec.problems import Problems, quoted
from appliance.spec.refs import SECRET_NAME, check_git_url
from appliance.spec.sources import read_secret
from appliance.spec.tree import Node

INTERVAL_S = 60.0
LEAST_INTERVAL_S = 5.0
MOST_INTERVAL_S = 7 * 86_400.0
_HINTS = {
    "branches": "each workflow in it says what it starts on: `on: {github: {branches: ...}}`",
    "branch": "each workflow in it says what it starts on: `on: {github: {branches: ...}}`",
    "ref": "each workflow in it says what it starts on: `on: {github: {branches: ...}}`",
    "path": "workflows are read from `.gradient/workflows` in it",
    "poll": "write `interval`, such as 5m",
    "token": "write `password: secret:NAME`",
    "secret": "write `secrets: [NAME]`",
    "deployment": "write `deployments: [NAME]`",
}


def read_repository(name: str, root: Node, problems: Problems) -> Repository | None:
    """None: there are problems."""
    top = whole_file(root, problems)
    found = Repository(
        name=name,
        url=_url(top),
        username=top.text("username"),
        password=read_secret(top, "password"),
        interval_s=top.seconds("interval", default=INTERVAL_S, least=LEAST_INTERVAL_S, most=MOST_INTERVAL_S),
        webhook=read_secret(top, "webhook"),
        secrets=_names(
            top, "secrets", SECRET_NAME, "TOKEN", "names no secret", "use the letters a-z and A-Z, digits and `_`"
        ),
        deployments=_names(
            top, "deployments", NAME, "digits", "cannot be the name of a deployment", f"use {NAME_RULE}"
        ),
    )
    top.close(_HINTS)
    return None if problems.errors else found


def _names(top: Fields, key: str, pattern: re.Pattern[str], example: str, message: str, hint: str) -> tuple[str, ...]:
    """What its workflows are given, each by its name: there is no word for all."""
    found: dict[str, None] = {}
    given = top.node(key)
    one = given.value if given and isinstance(given.value, str) and pattern.fullmatch(given.value) else example
    for path, node in top.items(key, what=f"a list of {key}", hint=f"such as `{key}: [{one}]`"):
        name = read_text(node, path, top.problems)
        bare = name[len("secret:") :] if name.lower().startswith("secret:") else ""
        if name and not pattern.fullmatch(name):
            instead = f"write {bare}" if pattern.fullmatch(bare) else hint
            top.problems.error(node.mark, path, f"{quoted(name)} {message}", instead)
        elif name in found:
            top.problems.error(node.mark, path, f"{quoted(name)} is named already")
        found[name] = None
    return tuple(found)


def _url(top: Fields) -> str:
    """An address, or the absolute path of a repository on this machine."""
    url = top.text("url", required=True, hint="such as https://github.com/you/project.git")
    node = top.node("url")
    if node is None or not url:
        return url
    found = address.parse(url)
    if url.startswith(("/", "file:")):
        path = found.path if found else ""
        if not path.isprintable() or {".", ".."} & set(path.split("/")) or not path.strip("/"):
            top.error("url", f"{quoted(url)} is not the path of a repository", "an absolute path without `..`")
    elif url.startswith("context.") or "$" in url:
        top.error("url", f"{quoted(url)} is no address", "only a job's checkout has an event and variables")
    elif url.startswith("git://"):
        top.error(
            "url", f"{quoted(url)} is not polled: nothing proves who answers over git://", "use https:// or ssh://"
        )
    elif found is None or found.way != "ssh" or found.password or not found.path.strip("/"):
        check_git_url(url, node.mark, "url", top.problems)
    return url
