"""What a deployment brings into its containers: models, integrations and repositories."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

from appliance.spec.fields import Fields
from appliance.spec.models import Clone, Integration, ModelMount, Repositories
from appliance.spec.names import NAME, NAME_RULE
from appliance.spec.problems import Problems, quoted
from appliance.spec.refs import check_dataset, check_git_ref, check_git_url, check_secret
from appliance.spec.tree import Node

Kind = Literal["git-lfs", "s3", "spaces", "volume", "dataset"]
INTEGRATIONS = ("git-lfs", "s3", "spaces", "do-spaces", "model", "volume", "dataset")
MOST_INTEGRATIONS = 5
MODEL_PATH = "/opt/models"
INTEGRATION_PATH = "/opt/integrations"
REPOSITORIES_PATH = "/opt/repos"

_BUCKET = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9.-]{2,62}(?:/.*)?")
_REGION = re.compile(r"[^.]+\.digitaloceanspaces\.com")
_SPACE = re.compile(r"[\x00-\x20\x7f]")
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]")
_NO_EVENT = "only a job's checkout has an event and variables"
_HINTS = {
    "mountPath": "write `path`",
    "ref": "it is for a repository or a dataset; of a model `id` means one version, its name the newest",
    "branch": "write `ref`",
    "bucket": "write `url: s3://BUCKET/PATH`",
    "username": "write `accessKeyId: secret:NAME`",
    "password": "write `secretAccessKey: secret:NAME`",
    "dataset": "write `ref`",
    "accessKey": "write `accessKeyId`",
    "secretKey": "write `secretAccessKey`",
}
_CLONE_HINTS = {"path": "it is at `mountPath` and its name", "branch": "write `ref`"}


class Mount(NamedTuple):
    """Something that a container finds at `path`."""

    path: str
    where: str
    """In the document."""


class Sources(NamedTuple):
    models: tuple[ModelMount, ...]
    integrations: tuple[Integration, ...]
    repositories: Repositories | None


def read_sources(top: Fields, *, older: bool) -> Sources:
    """`older`: the dialect that has no integrations."""
    models, mounts = _models(top)
    integrations: list[Integration] = []
    if not older:
        more, integrations, where = _integrations(top)
        models += more
        mounts += where
    repositories = _repositories(top)
    if repositories:
        mounts.append(Mount(repositories.path, top.at("repositories")))
    _check_mounts(mounts, top)
    return Sources(tuple(models), tuple(integrations), repositories)


def _models(top: Fields) -> tuple[list[ModelMount], list[Mount]]:
    models, mounts = [], []
    for path, node in top.items("models", what="a list of {id, path}", hint="such as `- id: mo...`"):
        item = Fields(node, path, top.problems, what="a map such as {id: mo...}")
        models.append(_model(item))
        mounts.append(Mount(models[-1].path, path))
        item.close({"name": "write `id`: it is an id or a name", "ref": "write `id`: it is an id or a name"})
    return models, mounts


def _model(item: Fields) -> ModelMount:
    model, path = item.text("id", required=True), item.text("path", default=MODEL_PATH)
    if model and not NAME.fullmatch(model):
        item.error("id", f"{quoted(model)} is neither the id nor the name of a model")
    _check_mount_path(item, "path", path)
    return ModelMount(id=model, path=path)


def _integrations(top: Fields) -> tuple[list[ModelMount], list[Integration], list[Mount]]:
    models: list[ModelMount] = []
    found: list[tuple[Integration, str]] = []
    mounts: list[Mount] = []
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
            models.append(_model(item))
            mounts.append(Mount(models[-1].path, path))
        elif kind in INTEGRATIONS:
            found.append((_integration(item, "spaces" if kind == "do-spaces" else kind, name), path))
        if kind in INTEGRATIONS:  # else nobody knows which keys it has
            item.close(_HINTS)
    if len(items) > MOST_INTEGRATIONS:
        top.error("integrations", f"must have at most {MOST_INTEGRATIONS} items, not {len(items)}")
    placed = _placed(found, top.problems)
    mounts += [Mount(one.path, path) for one, (_, path) in zip(placed, found, strict=True)]
    return models, placed, mounts


def _placed(found: list[tuple[Integration, str]], problems: Problems) -> list[Integration]:
    """Each at its `path`; several that share one are beside each other in it, by name, as Gradient's page has it."""
    shared = Counter(one.path.rstrip("/") for one, _ in found)
    return [
        one.model_copy(update={"path": f"{one.path.rstrip('/')}/{one.name}"})
        if shared[one.path.rstrip("/")] > 1
        else one
        for one, _ in found
    ]


def _integration(item: Fields, kind: str, name: str) -> Integration:
    if kind == "volume":
        item.extension("path", f"remove it: Gradient mounts it at {INTEGRATION_PATH}/NAME")
    if kind == "dataset":
        item.extension("type", "Gradient has no such integration: make a model of it, or use `repositories`")
    path = item.text("path", default=f"{INTEGRATION_PATH}/{name}")
    _check_mount_path(item, "path", path)
    url = ref = username = password = region = endpoint = access_key = secret_key = ""
    if kind == "git-lfs":
        for key in ("ref", "username", "password"):
            item.extension(key, "remove it: Gradient takes the default branch of a public repository")
        url, ref, username, password = (
            read_git_url(item),
            read_git_ref(item),
            item.text("username"),
            read_secret(item, "password"),
        )
    elif kind == "dataset":
        ref = item.text("ref", required=True, hint="write NAME or NAME:VERSION")
        if node := item.node("ref"):
            check_dataset(ref, node.mark, item.at("ref"), item.problems)
    elif kind in ("s3", "spaces"):
        if kind == "s3":
            region, url = item.text("region"), item.text("url", required=True, hint="such as s3://bucket/path/")
        if url and (not _BUCKET.fullmatch(url) or not url.isprintable()):
            item.error("url", f"{quoted(url)} is not a bucket address", "such as s3://bucket/path/")
        endpoint = _server(item, spaces=kind == "spaces")
        access_key, secret_key = read_secret(item, "accessKeyId"), read_secret(item, "secretAccessKey")
        _check_pair(item, access_key, secret_key)
    return Integration(
        type=cast(Kind, kind),
        name=name,
        path=path,
        url=url,
        ref=ref,
        username=username,
        password=password,
        region=region,
        endpoint=endpoint,
        access_key=access_key,
        secret_key=secret_key,
    )


def _server(item: Fields, *, spaces: bool) -> str:
    """The address of an S3 server, with its protocol; of Spaces with the bucket, before the host or below it."""
    hint = "such as https://BUCKET.fra1.digitaloceanspaces.com" if spaces else "such as https://s3.example.com"
    endpoint = item.text("endpoint", required=spaces, hint=hint)
    if not endpoint:
        return endpoint
    url = endpoint if "://" in endpoint else f"https://{endpoint}"
    address = _address(url)
    if "@" in url:
        item.error("endpoint", "holds a login", "write `accessKeyId: secret:NAME` and `secretAccessKey: secret:NAME`")
    elif address is None:
        item.error("endpoint", f"{quoted(endpoint)} is not the address of a server", hint)
    elif spaces and _REGION.fullmatch(address.hostname or "") and not address.path.strip("/"):
        item.error("endpoint", f"{quoted(endpoint)} names no bucket", hint)
    return url


def _address(url: str) -> SplitResult | None:
    """None: it is no server's."""
    try:
        found = urlsplit(url)
        known = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        return None
    return found if known and not _SPACE.search(url) else None


def _check_pair(item: Fields, access_key: str, secret_key: str) -> None:
    if bool(access_key) != bool(secret_key):
        given, missing = ("accessKeyId", "secretAccessKey") if access_key else ("secretAccessKey", "accessKeyId")
        if missing not in item:
            item.missing(missing, f"`{given}` is given; without both the bucket is asked without a login")


def _repositories(top: Fields) -> Repositories | None:
    fields = top.map("repositories")
    if fields is None:
        return None
    dataset = fields.text("dataset", required=True)
    if node := fields.node("dataset"):
        check_dataset(dataset, node.mark, fields.at("dataset"), top.problems, output=True)
    path = fields.text("mountPath", default=REPOSITORIES_PATH)
    _check_mount_path(fields, "mountPath", path)
    items = fields.items("repositories", required=True, hint="such as `- url: https://...`")
    clones = [_clone(node, where, top.problems) for where, node in items]
    names: set[str] = set()
    for clone, (where, node) in zip(clones, items, strict=True):
        if clone.name and clone.name in names:
            top.problems.error(node.mark, where, f"{quoted(clone.name)} is the name of a repository above")
        names.add(clone.name)
    fields.close({"path": "write `mountPath`"})
    return Repositories(dataset=dataset, path=path, clones=tuple(clones))


def _clone(node: Node, path: str, problems: Problems) -> Clone:
    item = Fields(node, path, problems, hint="such as {url: https://..., name: app}")
    url, name = read_git_url(item), item.text("name", required=True)
    if name and not NAME.fullmatch(name):
        item.error("name", f"{quoted(name)} cannot be a folder's name", f"use {NAME_RULE}")
    username, password = item.text("username"), read_secret(item, "password")
    clone = Clone(url=url, name=name, ref=read_git_ref(item), username=username, password=password)
    item.close(_CLONE_HINTS)
    return clone


def read_git_ref(item: Fields) -> str:
    ref = item.text("ref")
    if ref.startswith("context.") or _VARIABLE.search(ref):
        item.error("ref", f"{quoted(ref)} is no branch, tag or commit", _NO_EVENT)
    elif node := item.node("ref"):
        check_git_ref(ref, node.mark, item.at("ref"), item.problems)
    return ref


def read_git_url(item: Fields) -> str:
    url = item.text("url", required=True, hint="such as https://huggingface.co/NAME/MODEL")
    if url.startswith("context.") or _VARIABLE.search(url):
        item.error("url", f"{quoted(url)} is no address", _NO_EVENT)
    elif node := item.node("url"):
        check_git_url(url, node.mark, item.at("url"), item.problems)
    return url


def _check_mount_path(fields: Fields, key: str, path: str) -> None:
    parts = path.strip("/").split("/")
    if path and key in fields and (not path.startswith("/") or {"", ".", ".."} & set(parts) or not path.isprintable()):
        fields.error(key, f"{quoted(path)} is not an absolute path below /", "such as /opt/models/mine")


def _check_mounts(mounts: list[Mount], top: Fields) -> None:
    """No two at one place."""
    taken: dict[str, str] = {}
    for path, where in mounts:
        path = path.rstrip("/")
        if path in taken:
            message = f"is mounted at {quoted(path)}, and so is {taken[path]}"
            top.problems.error(top.mark, where, message, "give one of them another `path`")
        taken.setdefault(path, where)
    for path, where in taken.items():
        outer = next((other for other in taken if path.startswith(f"{other}/")), None)
        if outer and path:
            message = f"is mounted at {quoted(path)}, inside of {taken[outer]} at {quoted(outer)}"
            hint = "put them side by side: what holds the inner one may lack the folder, and cannot be written"
            top.problems.warn(top.mark, where, message, hint)


def read_secret(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if node := fields.node(key):
        check_secret(text, node.mark, fields.at(key), fields.problems, required=True)
    return text
