"""What a job runs: `uses` and `with`, one reader per action of Gradient; ours are in `own_actions`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Literal, cast

from appliance.spec.fields import Fields, read_text
from appliance.spec.models import (
    Action,
    Alias,
    ContainerAction,
    CreateModelAction,
    GitCheckoutAction,
    Output,
    S3DownloadAction,
    ScriptAction,
    Value,
)
from appliance.spec.names import NAME, NAME_RULE
from appliance.spec.own_actions import OWN, read_deploy, read_notebook_action
from appliance.spec.problems import quoted
from appliance.spec.refs import check_expression, check_git_ref, check_git_url, check_image, check_secret
from appliance.spec.tree import child_path

MODEL_TYPES = ("Tensorflow", "ONNX", "Custom")
_FILLABLE = ("volume", "dataset")
_SHELL = re.compile(r"[|&;<>()$`*?~#\n]")
_BUCKET = re.compile(r"s3://[^/\s]+(/.*)?")
_NO_CREDENTIALS = "a private image is pulled with `defaults.resources.container-registries`"
_WITH_HINTS = {"username": _NO_CREDENTIALS, "password": _NO_CREDENTIALS, "containerRegistry": _NO_CREDENTIALS}

Inputs = Mapping[str, Alias | Value]
Outputs = Mapping[str, Output]


def read_action(job: Fields, inputs: Inputs, outputs: Outputs) -> Action | None:
    """None: there is no action to read, which is noted."""
    uses = job.text("uses", required=True, hint="such as `uses: script@v1`")
    reader = _READERS.get(uses)
    parameters = job.map("with", required=reader is not None, hint="the action's parameters")
    if uses and reader is None:
        known = ", ".join(_READERS)
        job.error("uses", f"{quoted(uses)} is no action", job.problems.nearest(uses, _READERS) or f"there are {known}")
    if reader is None or parameters is None:
        return None
    if uses in OWN:
        job.extension("uses", OWN[uses])
    action = reader(parameters, inputs, outputs)
    parameters.close(_WITH_HINTS if uses in ("script@v1", "container@v1") else None)
    return action


def shared_volumes(inputs: Inputs) -> list[str]:
    """Inputs in the dialect of 2021: a volume that all jobs which name it share."""
    return [name for name, value in inputs.items() if isinstance(value, Value) and value.type == "volume"]


def _text(fields: Fields, key: str, *, required: bool = False) -> str:
    """A parameter that takes a secret and no `${{ }}`."""
    text = fields.text(key, required=required)
    if node := fields.node(key):
        check_secret(text, node.mark, fields.at(key), fields.problems)
        check_expression(text, node.mark, fields.at(key), fields.problems)
    return text


def _secret(fields: Fields, key: str, *, required: bool = False) -> str:
    text = fields.text(key, required=required)
    if node := fields.node(key):
        check_secret(text, node.mark, fields.at(key), fields.problems, required=True)
    return text


def _image(fields: Fields) -> str:
    image = fields.text("image", required=True)
    if node := fields.node("image"):
        check_image(image, node.mark, fields.at("image"), fields.problems)
    return image


def _script(fields: Fields, inputs: Inputs, outputs: Outputs) -> Action:
    script = fields.text("script", required=True)
    if node := fields.node("script"):
        check_expression(script, node.mark, fields.at("script"), fields.problems, script=True)
    return ScriptAction(image=_image(fields), script=script)


def _container(fields: Fields, inputs: Inputs, outputs: Outputs) -> Action:
    args = fields.texts("args", hint="such as [bash, -c, ...]")
    return ContainerAction(image=_image(fields), command=_command(fields), args=args)


def _command(fields: Fields) -> tuple[str, ...] | None:
    """A list, or a text: split into words as a shell does, and given to a shell where it uses more than words."""
    node = fields.node("command")
    if node is None or isinstance(node.value, list):
        return fields.texts("command")
    text = read_text(node, fields.at("command"), fields.problems)
    if _SHELL.search(text):
        return ("/bin/sh", "-c", text)
    try:
        return tuple(shlex.split(text))
    except ValueError:
        fields.error("command", "has a quote without its end")
        return None


def _git_checkout(fields: Fields, inputs: Inputs, outputs: Outputs) -> Action:
    url, ref = fields.text("url", required=True), fields.text("ref")
    if node := fields.node("url"):
        check_expression(url, node.mark, fields.at("url"), fields.problems)
        check_git_url(url, node.mark, fields.at("url"), fields.problems)
    if node := fields.node("ref"):
        check_expression(ref, node.mark, fields.at("ref"), fields.problems)
        check_git_ref(ref, node.mark, fields.at("ref"), fields.problems)
    username, password = _text(fields, "username"), _secret(fields, "password")
    return GitCheckoutAction(
        url=url, ref=ref, username=username, password=password, path=_target(fields, inputs, outputs)
    )


def _s3_download(fields: Fields, inputs: Inputs, outputs: Outputs) -> Action:
    url = fields.text("url", required=True)
    if url and not _BUCKET.fullmatch(url):
        fields.error("url", f"{quoted(url)} is not a bucket address", "such as s3://bucket/path/")
    return S3DownloadAction(
        url=url,
        access_key=_text(fields, "access-key", required=True),
        secret_access_key=_secret(fields, "secret-access-key", required=True),
        region=fields.text("region"),
        endpoint=fields.text("endpoint"),
        path=_target(fields, inputs, outputs),
    )


def _target(fields: Fields, inputs: Inputs, outputs: Outputs) -> str:
    """`path`, or the one output that can be meant; without any output, the one volume that the jobs share."""
    names = [name for name, output in outputs.items() if output.type in _FILLABLE]
    shared = shared_volumes(inputs)
    path = fields.text("path")
    if not path:
        _one_output(fields, [f"/outputs/{name}" for name in names] or [f"/inputs/{name}" for name in shared])
        return ""
    parts = path.strip("/").split("/")
    inside = path.startswith("/") and len(parts) > 1 and not {"", ".", ".."} & set(parts)
    if inside and parts[0] == "inputs" and parts[1] in shared:
        return path
    if not inside or parts[0] != "outputs":
        fields.error("path", f"{quoted(path)} is not below /outputs", "such as /outputs/repo")
    elif parts[1] not in names:
        hint = fields.problems.nearest(parts[1], names) or f"declare `outputs: {{{parts[1]}: {{type: volume}}}}`"
        fields.error("path", f"{quoted(parts[1])} is not a volume or dataset output of this job", hint)
    return path


def _one_output(fields: Fields, targets: list[str]) -> None:
    if "path" in fields or len(targets) == 1:
        return
    if targets:
        fields.missing("path", f"this job has {len(targets)} volumes for it: write `path: {targets[0]}`")
        return
    mark, path = fields.mark, fields.path.removesuffix(".with")
    hint = "add `outputs: {repo: {type: volume}}` to the job"
    fields.problems.error(mark, path, "has no volume or dataset output that could hold the files", hint)


def _create_model(fields: Fields, inputs: Inputs, outputs: Outputs) -> Action:
    name, wanted = fields.text("name", required=True), fields.text("type", required=True)
    if name and not NAME.fullmatch(name):
        fields.error("name", f"{quoted(name)} cannot be the name of a model", f"use {NAME_RULE}")
    kind = {option.lower(): option for option in MODEL_TYPES}.get(wanted.lower(), "")
    if wanted and not kind:
        hint = fields.problems.nearest(wanted, MODEL_TYPES)
        fields.error("type", f"must be Tensorflow, ONNX or Custom, not {quoted(wanted)}", hint)
    for output, value in outputs.items():
        if output != "model-id" or value.type != "string":
            where = child_path(f"{fields.path.removesuffix('.with')}.outputs", output)
            message = "create-model@v1 has one output: `model-id` of type string"
            fields.problems.error(fields.mark, where, message)
    return CreateModelAction(name=name, type=cast(Literal["Tensorflow", "ONNX", "Custom"], kind or "Custom"))


_READERS: Mapping[str, Callable[[Fields, Inputs, Outputs], Action]] = {
    "container@v1": _container,
    "script@v1": _script,
    "git-checkout@v1": _git_checkout,
    "s3-download@v1": _s3_download,
    "create-model@v1": _create_model,
    "deploy@v1": read_deploy,
    "notebook@v1": read_notebook_action,
}
