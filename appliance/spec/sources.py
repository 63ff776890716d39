"""What a deployment brings into its containers: models, integrations and repositories."""

from __future__ import annotations

from appliance.spec.fields import Fields
from appliance.spec.models import ModelMount
from appliance.spec.names import NAME, NAME_RULE
from appliance.spec.problems import Mark, quoted
from appliance.spec.refs import check_dataset, check_git_ref, check_git_url, check_secret

MODEL_PATH = "/opt/models"
MOST_INTEGRATIONS = 5
INTEGRATIONS = ("git-lfs", "s3", "spaces", "do-spaces", "model", "volume")

Unsupported = dict[str, Mark]
"""Path and place of what is valid, kept, and not acted on."""
Mount = tuple[ModelMount, str]
"""With its path in the document."""


def read_models(top: Fields) -> list[Mount]:
    found = []
    for path, node in top.items("models", what="a list of {id, path}", hint="such as `- id: mo...`"):
        item = Fields(node, path, top.problems, what="a map such as {id: mo...}")
        found.append(_mount(item))
        item.close()
    return found


def _mount(item: Fields) -> Mount:
    model, path = item.text("id", required=True), item.text("path", default=MODEL_PATH)
    if model and not NAME.fullmatch(model):
        item.error("id", f"{quoted(model)} is neither the id nor the name of a model")
    _check_mount_path(item, "path", path)
    return ModelMount(id=model, path=path), item.path


def _check_mount_path(fields: Fields, key: str, path: str) -> None:
    parts = path.strip("/").split("/")
    if path and (not path.startswith("/") or {"", ".", ".."} & set(parts) or not path.isprintable()):
        fields.error(key, f"{quoted(path)} is not an absolute path below /", "such as /opt/models/mine")


def check_mounts(models: list[Mount], top: Fields) -> None:
    taken: dict[str, str] = {}
    for model, where in models:
        path = model.path.rstrip("/")
        if path in taken:
            message = f"is mounted at {quoted(path)}, and so is {taken[path]}"
            top.problems.error(top.mark, where, message, "give one of them another `path`")
        taken.setdefault(path, where)


def read_integrations(top: Fields, unsupported: Unsupported) -> list[Mount]:
    models: list[Mount] = []
    names: set[str] = set()
    items = top.items("integrations", what="a list", hint="start each with `- type: ...`")
    for path, node in items:
        item = Fields(node, path, top.problems)
        kind = item.choice("type", INTEGRATIONS, required=True)
        name = item.text("name", required=True)
        if name and not NAME.fullmatch(name):
            item.error("name", f"{quoted(name)} cannot be a folder's name", f"use {NAME_RULE}")
        if name in names:
            item.error("name", f"{quoted(name)} is the name of an integration above")
        names.add(name)
        if kind == "model":
            models.append(_mount(item))
        elif kind:
            _integration(item, kind)
            unsupported[path] = item.mark
        item.close()
    if len(items) > MOST_INTEGRATIONS:
        top.error("integrations", f"must have at most {MOST_INTEGRATIONS} items, not {len(items)}")
    return models


def _integration(item: Fields, kind: str) -> None:
    """The fields of a kind that is kept and not acted on."""
    if kind == "volume":
        return
    _check_mount_path(item, "path", item.text("path"))
    if kind == "git-lfs":
        if (url := item.text("url", required=True)) and (node := item.node("url")):
            check_git_url(url, node.mark, item.at("url"), item.problems)
        return
    if kind == "s3":
        item.text("region")
        if (url := item.text("url", required=True)) and not url.startswith("s3://"):
            item.error("url", f"{quoted(url)} is not a bucket address", "such as s3://bucket/path/")
    item.text("endpoint", required=kind != "s3")
    read_secret(item, "accessKeyId")
    read_secret(item, "secretAccessKey")


def read_repositories(top: Fields, unsupported: Unsupported) -> None:
    repositories = top.map("repositories")
    if repositories is None:
        return
    unsupported[repositories.path] = repositories.mark
    dataset = repositories.text("dataset", required=True)
    if node := repositories.node("dataset"):
        check_dataset(dataset, node.mark, repositories.at("dataset"), top.problems, output=True)
    _check_mount_path(repositories, "mountPath", repositories.text("mountPath"))
    for path, node in repositories.items("repositories", required=True, hint="such as `- url: https://...`"):
        item = Fields(node, path, top.problems)
        if (url := item.text("url", required=True)) and (found := item.node("url")):
            check_git_url(url, found.mark, item.at("url"), top.problems)
        name = item.text("name", required=True)
        if name and not NAME.fullmatch(name):
            item.error("name", f"{quoted(name)} cannot be a folder's name", f"use {NAME_RULE}")
        ref = item.text("ref")
        if found := item.node("ref"):
            check_git_ref(ref, found.mark, item.at("ref"), top.problems)
        item.text("username")
        read_secret(item, "password")
        item.close()
    repositories.close()


def read_secret(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if node := fields.node(key):
        check_secret(text, node.mark, fields.at(key), fields.problems, required=True)
    return text
