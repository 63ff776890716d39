"""Our own kinds, notebook and dataset; Gradient has no file for either."""

from __future__ import annotations

from appliance.spec.env import read_env
from appliance.spec.fields import Fields, describe, read_seconds, read_text
from appliance.spec.models import Dataset, DatasetMount, History, Notebook
from appliance.spec.names import NAME, NAME_RULE
from appliance.spec.problems import Problems, quoted
from appliance.spec.refs import check_dataset, check_image
from appliance.spec.tree import Node

MOST_GPUS = 64
LEAST_INTERVAL_S = 60
"""The controller looks this often."""
MOST_INTERVAL_S = 7 * 86_400
MOST_KEPT = 10_000
LEAST_QUOTA = 1 << 20
MOST_QUOTA = 1 << 50
_HINTS = {
    "integrations": "write `datasets: {NAME: REF}`",
    "container": "write `image`",
    "machineType": "write `machine`",
    "instance-type": "write `machine`",
    "resources": "write `machine` and `gpus`",
    "storage": "write `quota: 20G` to bound the workspace",
    "port": "JupyterLab is published without it",
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
    found = Notebook(
        name=name,
        image=image,
        command=_command(top),
        env=read_env(top),
        machine=top.text("machine"),
        gpus=top.whole("gpus", most=MOST_GPUS),
        datasets=_datasets(top),
        history=_history(top),
        quota=top.size("quota", least=LEAST_QUOTA, most=MOST_QUOTA),
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
