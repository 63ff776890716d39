"""`appliance model ...`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from appliance.cli import get as getting
from appliance.cli import listing, render
from appliance.cli.dataset import split
from appliance.client import Client
from appliance.errors import NotFound, UsageError

Run = Callable[[argparse.Namespace], int]
OUTPUTS = ("table", "json", "yaml")


def configure_model(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, run: Run, *arguments: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        for argument in arguments:
            added.add_argument(argument, metavar=argument.upper())
        added.set_defaults(run=run)
        return added

    create = verb("create", "register a dataset version, or files of yours, as a model", run_create, "name")
    create.add_argument(
        "source", metavar="REF|PATH", help="NAME:VERSION of a dataset, or a path with a / or . in front"
    )
    create.add_argument("--type", default="Custom", help="Tensorflow, ONNX or Custom")
    create.add_argument("--dataset", default="", help="with PATH: the dataset that gets the files; default: NAME")
    create.add_argument("-m", "--message", default="", help="with PATH: of the version")
    everything = verb("list", "all models, newest first", run_list)
    versions = verb("versions", "all that were registered under a name, newest first", run_versions, "name")
    get = verb("get", "fetch the files of a model into a directory", run_get, "model", "directory")
    get.add_argument("--path", default="", help="only this file or directory of it")
    lineage = verb("lineage", "the run and the dataset versions that made it", run_lineage, "model")
    for added in (everything, versions, lineage):
        added.add_argument("-o", "--output", choices=OUTPUTS, default="table")
    verb("delete", "forget a model, by its id; its dataset version stays", run_delete, "id")


def run_create(args: argparse.Namespace) -> int:
    client = render.client()
    ref = args.source
    if _is_path(args.source):
        ref = _put(client, args)
    elif args.dataset or args.message:
        raise UsageError("--dataset and --message are for files of yours", hint="write the path with ./ in front")
    model = client.create_model(args.name, ref, args.type)
    print(model["id"])
    render.say(f"model {model['name']} is {model['dataset']}:{model['version']}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    return _show(render.client().items("models"), args.output)


def run_versions(args: argparse.Namespace) -> int:
    return _show(render.client().items(f"models/{args.name}/versions"), args.output)


def run_get(args: argparse.Namespace) -> int:
    from appliance.cli import transfer  # deferred: only what moves files needs it

    client = render.client()
    model = client.get("models", args.model)
    transfer.get(client, model["dataset"], model["version"], Path(args.directory), path=args.path)
    render.say(f"model {model['name']} ({model['id']}) is in {args.directory}")
    return 0


def run_lineage(args: argparse.Namespace) -> int:
    found = render.client().model_lineage(args.model)
    if args.output != "table":
        render.data(found, args.output)
        return 0
    model = found["model"]
    print(f"{'model':<14} {render.clean(model['name'])} ({model['id']}, {model['type']})")
    by = f"run {found['run']}, job {found['job']}" if found["run"] else "hand"
    print(f"{'registered by':<14} {render.clean(by)}")
    for name, ref in found["inputs"].items():
        print(f"{'run input':<14} {render.clean(ref)} ({render.clean(name)})")
    listing.lineage(found["version"])
    return 0


def run_delete(args: argparse.Namespace) -> int:
    render.client().delete("models", args.id)
    render.say(f"model {args.id} is forgotten; its dataset version stays")
    return 0


def _put(client: Client, args: argparse.Namespace) -> str:
    from appliance.cli import transfer  # deferred: only what moves files needs it

    dataset = args.dataset or args.name
    try:
        client.get("datasets", dataset)
    except NotFound:
        client.apply(json.dumps({"kind": "dataset", "name": dataset}), "model create")
        render.say(f"dataset {dataset}: created")
    return transfer.put(client, split(dataset)[0], Path(args.source), message=args.message)["ref"]


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) or text in (".", "..")


def _show(items: Sequence[Any], output: str) -> int:
    if output != "table":
        render.data(items, output)
        return 0
    header, row, empty = getting.TABLES["models"]
    render.table(header, [row(item) for item in items], empty=empty)
    return 0
