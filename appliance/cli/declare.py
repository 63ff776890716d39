"""`appliance apply`, `delete` and `validate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli import notebook_life, render
from appliance.cli.get import plural
from appliance.client import Client
from appliance.errors import NotFound, UsageError

if TYPE_CHECKING:
    from appliance import wire

SUFFIXES = (".yaml", ".yml", ".json", ".jsonc")
HOLDS_DATA = {
    "datasets": "the data and the history",
    "runs": "the record and all that is kept",
}
"""What goes with one of them, in words: it is asked for again."""


def configure_apply(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--file", required=True, action="append", help="a spec file, a folder of them, or -")
    parser.add_argument("--name", help="name for a spec that carries none; else the file's stem")
    parser.add_argument("--dry-run", action="store_true", help="say what would change and how, change nothing")
    parser.set_defaults(run=run_apply)


def configure_delete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", help="notebook, workflow, deployment, dataset, repository, run, secret or model")
    parser.add_argument("name")
    notebook_life.add_purge(parser)
    parser.set_defaults(run=run_delete)


def configure_validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="a spec file (YAML, JSON, JSONC), or a folder of them")
    parser.add_argument(
        "--json",
        action="store_true",
        dest="as_json",
        help="one object a document: file, kind, name, valid, problems, warnings, extensions; a problem has file, "
        "line, column, path, message and hint",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="Gradient's own dialect: refuse what the appliance adds to it, such as strategy.matrix, retry, cache, "
        "concurrency, on.schedule, on.dataset, on.folder, on.spec, on.webhook, deploy@v1, notebook@v1, owner, "
        "priority, preemptible, `kind` and `name` of a workflow, and the kinds dataset, notebook and repository",
    )
    parser.epilog = (
        "Exit code 0: every file is valid; 1: one is not. Problems go to stdout as FILE:LINE:COLUMN: PATH: MESSAGE "
        "(HINT), warnings to stderr."
    )
    parser.set_defaults(run=run_validate)


def run_apply(args: argparse.Namespace) -> int:
    client = render.client()
    rows: list[render.Row] = []
    plans: list[str] = []
    for path in [found for given in args.file for found in files(given)]:
        for change in apply_file(client, path, name=args.name, dry_run=args.dry_run):
            rows.append((change["kind"], change["name"], change["change"] + (" (dry run)" if args.dry_run else "")))
            plans += change.get("plan", ())
            for warning in change["warnings"]:
                render.say(f"warning: {warning}")
    render.table(("kind", "name", "change"), rows, empty="no spec files found")
    if plans:
        print("\n" + "\n".join(render.clean(sentence) for sentence in plans))
    return 0


def run_delete(args: argparse.Namespace) -> int:
    kind = plural(args.kind)
    if kind in ("secrets", "registries", "models"):
        render.client().delete(kind, args.name)
        render.say(f"{args.kind} {args.name} is gone")
        return 0
    if kind == "notebooks":
        return notebook_life.run_delete(args)
    if args.purge:
        raise UsageError(f"--purge is for notebooks; a {args.kind} goes for ever anyway")
    confirm = args.confirm
    if kind in HOLDS_DATA and not confirm and sys.stdin.isatty():
        render.say(f"This destroys {HOLDS_DATA[kind]} of {args.kind} {args.name!r}.")
        confirm = input("Type its name to go on: ")
        if confirm != args.name:
            raise UsageError("the name does not match; nothing was deleted")
    if kind == "runs":
        size = render.client().delete_run(args.name, confirm=confirm)["bytes"]
        render.say(f"run {args.name} is gone" + (f", and {render.size(size)} with it" if size else ""))
        return 0
    render.client().delete(kind, args.name, confirm=confirm)
    render.say(f"{args.kind} {args.name} is being deleted")
    return 0


def run_validate(args: argparse.Namespace) -> int:
    from appliance.cli import validate  # deferred: apply and delete leave the checking to the daemon

    return validate.run(args.files, as_json=args.as_json, strict=args.strict, out=sys.stdout, err=sys.stderr)


def apply_file(client: Client, path: str, *, name: str | None = None, dry_run: bool = False) -> list[wire.Change]:
    """Changes of one file; `-` reads stdin."""
    if path == "-":
        return client.apply(sys.stdin.read(), "stdin", name=name, dry_run=dry_run)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError("the file is not UTF-8 text", where=path) from None
    except OSError as error:
        raise NotFound(f"cannot be read: {error.strerror}", where=path) from None
    return client.apply(text, path, name=name, dry_run=dry_run)


def files(given: str) -> list[str]:
    path = Path(given)
    if given != "-" and path.is_dir():
        return [str(found) for found in sorted(path.iterdir()) if found.suffix in SUFFIXES]
    return [given]
