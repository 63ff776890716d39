"""`appliance notebook create`: what a spec file says, as options."""

from __future__ import annotations

import argparse
import json
from typing import Any

from appliance.cli import render
from appliance.cli.history import Verb
from appliance.cli.notebook_life import pair
from appliance.cli.settle import settle
from appliance.client import Client
from appliance.errors import Conflict, UsageError
from appliance.spec.names import slug

OPTIONS = "notebook create"
"""Stands where a file's name would, in what is said of the spec that the options make."""
TEXTS = ("image", "machine", "user", "quota", "shm", "idle", "shutdown", "owner")
"""Options that are keys of the spec under their own names."""


def configure(verb: Verb) -> argparse.ArgumentParser:
    create = verb("create", "declare a notebook and start it", run_create)
    create.add_argument("--image", default="", help="any image with Jupyter or Python in it; default: the built-in one")
    create.add_argument("--registry", default="", metavar="NAME", help="the login that the image is pulled with")
    create.add_argument("--machine", default="", metavar="TYPE", help="machine type, as Gradient names them")
    create.add_argument("--gpus", type=render.count, default=0, metavar="N", help="GPUs of its sessions")
    create.add_argument("--owner", default="", metavar="NAME", help="whose GPU time it is, in the ledger and the queue")
    create.add_argument("--priority", type=int, metavar="N", help="-100 to 100: the higher gets a GPU first")
    create.add_argument(
        "--preemptible",
        action="store_true",
        help="its session makes way for a higher priority, after a snapshot, and begins again when its turn comes",
    )
    create.add_argument("--user", default="", metavar="UID[:GID]", help="who its sessions run as; default: root")
    create.add_argument("--quota", default="", metavar="SIZE", help="most that the files may take, such as 20G")
    create.add_argument("--shm", default="", metavar="SIZE", help="shared memory, such as 8G")
    create.add_argument("--idle", default="", metavar="TIME", help="stop it after so long without use, such as 30m")
    create.add_argument("--shutdown", default="", metavar="TIME", help="stop it so long after its start, such as 6h")
    create.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="a variable; secret:NAME for a secret"
    )
    create.add_argument(
        "--dataset", action="append", default=[], metavar="NAME=REF", help="read-only at /datasets/NAME"
    )
    create.add_argument("--model", action="append", default=[], metavar="NAME=ID", help="read-only at /models/NAME")
    create.add_argument("--secret", action="append", default=[], metavar="NAME", help="the file /run/secrets/NAME")
    create.add_argument(
        "--workspace",
        default="",
        metavar="URL",
        help="a repository that its files begin from, or the page of one notebook in it",
    )
    create.add_argument("--ref", default="", help="branch, tag or commit of the repository")
    create.add_argument(
        "--from-job",
        default="",
        metavar="RUN/JOB",
        help="with what a failed workflow job read and wrote, and the end of its log; goes with --image only",
    )
    return create


def run_create(args: argparse.Namespace) -> int:
    document = document_of(args)
    client = render.client()
    if args.from_job:
        if document.keys() - {"kind", "name", "image"}:
            raise UsageError("--from-job goes with --image only", hint="apply a spec with the rest afterwards")
        return _from_job(client, args)
    name = slug(args.name)
    if any(there["name"] == name for there in client.items("notebooks")):
        raise Conflict(
            f"there is a notebook {name!r} already; nothing was changed",
            hint=f"give another name, or change it: `appliance notebook set {name} --help`; start it: "
            f"`appliance notebook start {name}`",
        )
    for change in client.apply(json.dumps(document), OPTIONS):
        render.say(f"notebook {change['name']}: {change['change']}")
        for warning in change["warnings"]:
            render.say(f"warning: {warning}")
    return 0 if args.no_wait else settle(client, name, "Running")


def document_of(args: argparse.Namespace) -> dict[str, Any]:
    """The spec. What is wrong in it is said by the daemon, as of a file."""
    document: dict[str, Any] = {"kind": "notebook", "name": args.name}
    document |= {key: value for key in TEXTS if (value := getattr(args, key))}
    if args.registry:
        document["containerRegistry"] = args.registry
    if args.gpus:
        document["gpus"] = args.gpus
    if args.priority is not None:
        document["priority"] = args.priority
    if args.preemptible:
        document["preemptible"] = True
    if args.env:
        document["env"] = dict(pair(text, "--env") for text in args.env)
    if args.dataset:
        document["datasets"] = {name: {"ref": ref} for name, ref in (pair(text, "--dataset") for text in args.dataset)}
    if args.model:
        document["models"] = dict(pair(text, "--model") for text in args.model)
    if args.secret:
        document["secrets"] = args.secret
    if args.ref and not args.workspace:
        raise UsageError("--ref is of a repository, and none is given", hint="add --workspace https://...")
    if args.workspace:
        document["workspace"] = {"url": args.workspace, **({"ref": args.ref} if args.ref else {})}
    return document


def _from_job(client: Client, args: argparse.Namespace) -> int:
    run, slash, job = args.from_job.partition("/")
    if not (run and slash and job):
        raise UsageError(f"--from-job takes RUN/JOB, not {args.from_job!r}", hint="such as train.3/fit")
    made = client.notebook_from_job(run, job, args.name, image=args.image)
    render.say(f"notebook {args.name} holds inputs/, outputs/ and capsule.md of {args.from_job}: {made['reason']}")
    if made["image"] and not args.image:
        render.say(f"it runs on the built-in notebook image; the job ran on {made['image']} (take it with --image)")
    for line in made["missing"]:
        render.say(f"not there: {line}")
    return 0 if args.no_wait else settle(client, args.name, "Running")
