"""Our own kinds, notebook and dataset; Gradient has no file for either."""

from __future__ import annotations

import re

from appliance.spec.env import read_env
from appliance.spec.fields import Fields, describe, read_seconds, read_text
from appliance.spec.lease import read_terms
from appliance.spec.models import Dataset, DatasetMount, History, Idle, Notebook, Workspace
from appliance.spec.names import NAME, NAME_RULE
from appliance.spec.problems import Problems, quoted
from appliance.spec.refs import SECRET_NAME, check_dataset, check_git_url, check_image
from appliance.spec.sources import read_git_ref, read_git_url, read_secret
from appliance.spec.tree import Node

MOST_GPUS = 64
LEAST_INTERVAL_S = 60
"""The controller looks this often."""
MOST_INTERVAL_S = 7 * 86_400
MOST_KEPT = 10_000
LEAST_QUOTA = 1 << 20
MOST_QUOTA = 1 << 50
LEAST_SHM, MOST_SHM = 1 << 20, 1 << 42
LEAST_IDLE_S = 60.0
MOST_IDLE_S = 30 * 86_400.0
MOST_ID = 2**31 - 1
ROOT_USER = "0:0"
_USER = re.compile(r"([0-9]{1,10})(?::([0-9]{1,10}))?", re.ASCII)
_USER_HINT = 'such as user: 1000 or user: "1000:100", numbers as `id` prints them'
_WORKSPACE_HINT = "such as https://github.com/NAME/REPOSITORY, or {url: https://..., ref: main}"
_HINTS = {
    "integrations": "write `datasets: {NAME: REF}`",
    "container": "write `image`",
    "machineType": "write `machine`",
    "instance-type": "write `machine`",
    "resources": "write `machine` and `gpus`",
    "storage": "write `quota: 20G` to bound the workspace",
    "port": "JupyterLab is published without it",
    "shutdownTimeout": "write `shutdown: 6h`",
    "shmSize": "write `shm: 8G`",
    "registry": "write `containerRegistry`",
    "repository": "write `workspace: {url: https://...}`",
}


def whole_file(root: Node, problems: Problems) -> Fields:
    """The keys of a kind that Gradient has no file for, `kind` and `name` read."""
    top = Fields(root, "", problems)
    for key in ("kind", "name"):
        top.node(key)
    problems.extension(top.key_mark("kind"), "kind", "Gradient has files for workflows and deployments only")
    return top


def read_notebook(name: str, root: Node, problems: Problems) -> Notebook | None:
    """None: there are problems."""
    top = whole_file(root, problems)
    image = top.text("image")
    if node := top.node("image"):
        check_image(image, node.mark, "image", problems)
    terms = read_terms(top)
    found = Notebook(
        name=name,
        image=image,
        command=_command(top),
        env=read_env(top),
        machine=top.text("machine"),
        gpus=top.whole("gpus", most=MOST_GPUS),
        datasets=_datasets(top),
        registry=top.text("containerRegistry"),
        user=_user(top),
        workspace=_workspace(top),
        models=_models(top),
        secrets=_secrets(top),
        shm=top.size("shm", least=LEAST_SHM, most=MOST_SHM),
        idle=_idle(top),
        shutdown_s=_time(top, "shutdown") or 0.0,
        history=_history(top),
        quota=top.size("quota", least=LEAST_QUOTA, most=MOST_QUOTA),
        owner=terms.owner,
        priority=terms.priority,
        preemptible=terms.preemptible,
    )
    top.close(_HINTS)
    return None if problems.errors else found


def read_dataset(name: str, root: Node, problems: Problems) -> Dataset | None:
    """None: there are problems."""
    top = whole_file(root, problems)
    found = Dataset(name=name, description=top.text("description", empty=True))
    top.close()
    return None if problems.errors else found


def _command(top: Fields) -> tuple[str, ...] | None:
    """A list, or one text for the shell, as Gradient's notebooks take it."""
    node = top.node("command")
    if node is None or isinstance(node.value, list):
        return top.texts("command") or None
    text = read_text(node, "command", top.problems)
    return ("/bin/sh", "-c", text)


def _user(top: Fields) -> str:
    """`UID` alone means the group of the same number, as `useradd` makes it."""
    node = top.node("user")
    if node is None:
        return ROOT_USER
    whole = isinstance(node.value, int) and not isinstance(node.value, bool)
    found = _USER.fullmatch(str(node.value)) if whole or isinstance(node.value, str) else None
    if found is None:
        top.error("user", f"must be a user's number, not {describe(node)}", _USER_HINT)
        return ""
    uid, gid = int(found[1]), int(found[2] or found[1])
    if max(uid, gid) > MOST_ID:
        top.error("user", f"must be numbers up to {MOST_ID}", _USER_HINT)
    return f"{uid}:{gid}"


def _workspace(top: Fields) -> Workspace | None:
    node = top.node("workspace")
    if node is None:
        return None
    if isinstance(node.value, str):
        if node.value == "none":  # as Gradient's clients write it
            return None
        url = read_text(node, "workspace", top.problems)
        check_git_url(url, node.mark, "workspace", top.problems)
        return Workspace(url=url)
    fields = Fields(node, "workspace", top.problems, what="an address or a map", hint=_WORKSPACE_HINT)
    found = Workspace(
        url=read_git_url(fields),
        ref=read_git_ref(fields),
        username=fields.text("username"),
        password=read_secret(fields, "password"),
    )
    fields.close({"branch": "write `ref`", "path": "it is /notebooks"})
    return found


def _models(top: Fields) -> dict[str, str]:
    """`NAME: ID`, in the manner of `datasets`."""
    models: dict[str, str] = {}
    found = top.map("models", hint="such as `bert: mo1abc` or `bert: bert`")
    for name, path, mark, node in found.entries() if found else ():
        if not NAME.fullmatch(name):
            top.problems.error(mark, path, f"{quoted(name)} cannot be a folder's name", f"use {NAME_RULE}")
        ref = read_text(node, path, top.problems)
        if ref and not NAME.fullmatch(ref):
            top.problems.error(node.mark, path, f"{quoted(ref)} is neither the id nor the name of a model")
        models[name] = ref
    return models


def _secrets(top: Fields) -> tuple[str, ...]:
    names = top.texts("secrets", hint="a list of names, such as [hf-token]") or ()
    for index, name in enumerate(names):
        if not SECRET_NAME.fullmatch(name) or name in (".", ".."):
            top.error("secrets", f"item {index} is no secret's name: {quoted(name)}", "write its name alone")
    return tuple(dict.fromkeys(names))


def _idle(top: Fields) -> Idle:
    """A time alone, `never`, or a map."""
    node = top.node("idle")
    if node is None:
        return Idle()
    if not isinstance(node.value, dict):
        return Idle(after_s=_time(top, "idle"))
    fields = Fields(node, "idle", top.problems, hint="such as {after: 30m, warn: 5m}")
    found = Idle(
        after_s=_time(fields, "after"), warn_s=_time(fields, "warn", least=0.0), gpu=fields.flag("gpu", default=True)
    )
    fields.close({"timeout": "write `after`"})
    return found


def _time(fields: Fields, key: str, *, least: float = LEAST_IDLE_S) -> float | None:
    """Seconds; 0 and `never` are never. None: it is not given, or no time, which is noted."""
    node = fields.node(key)
    if node is None:
        return None
    if node.value == "never" or (node.value == 0 and not isinstance(node.value, bool)):
        return 0.0
    return read_seconds(node, fields.at(key), fields.problems, least=least, most=MOST_IDLE_S)


def _history(top: Fields) -> History:
    found = top.map("history", hint="such as `history: {interval: 10m, daily: 30}`")
    if found is None:
        return History()
    kept = {
        word: found.whole(word, most=MOST_KEPT) if word in found else None
        for word in ("hourly", "daily", "weekly", "monthly")
    }
    interval_s = _interval(found)
    found.close({"snapshots": "write `interval`", "yearly": "write `monthly`, such as 24"})
    return History(interval_s=interval_s, **kept)


def _interval(fields: Fields) -> float | None:
    """Seconds; 0 is never."""
    node = fields.node("interval")
    if node is None:
        return None
    if node.value == 0 and not isinstance(node.value, bool):
        return 0.0
    least, most = LEAST_INTERVAL_S, MOST_INTERVAL_S
    return read_seconds(node, fields.at("interval"), fields.problems, least=least, most=most)


def _datasets(top: Fields) -> dict[str, DatasetMount]:
    """`NAME: REF`, or the longer form of Gradient's `.gradient/settings.yaml`."""
    mounts: dict[str, DatasetMount] = {}
    found = top.map("datasets", hint="such as `mnist: mnist:latest`")
    for name, path, mark, node in found.entries() if found else ():
        if not NAME.fullmatch(name):
            top.problems.error(mark, path, f"{quoted(name)} cannot be a folder's name", f"use {NAME_RULE}")
        if isinstance(node.value, dict):
            ref = _long_form(Fields(node, path, top.problems))
        elif isinstance(node.value, str):
            ref = read_text(node, path, top.problems)
            check_dataset(ref, node.mark, path, top.problems)
        else:
            ref = ""
            top.problems.error(node.mark, path, f"must be a dataset's name, not {describe(node)}")
        mounts[name] = DatasetMount(ref=ref)
    return mounts


def _long_form(fields: Fields) -> str:
    fields.choice("type", ("dataset",))
    if "id" in fields and "ref" not in fields:
        ref, key = fields.text("id"), "id"
        if version := fields.text("version"):
            ref = f"{ref}:{version}"
    else:
        ref, key = fields.text("ref", required=True), "ref"
    if node := fields.node(key):
        check_dataset(ref, node.mark, fields.at(key), fields.problems)
    fields.close()
    return ref
