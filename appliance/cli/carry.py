"""`appliance notebook export` and `import`: a notebook as one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from appliance.cli import render
from appliance.cli.bar import Bar
from appliance.cli.history import Verb
from appliance.cli.settle import settle
from appliance.errors import Conflict, NotFound, StorageError, UsageError

PIECE = 1 << 18
ENDING = ".tar.gz"


def configure(verb: Verb, verbs: Any) -> None:
    export = verb("export", "write it into one file: its spec and its files, without history and secrets", run_export)
    export.add_argument("--at", default="", metavar="SNAPSHOT", help="the files of then; default: now")
    export.add_argument("-o", "--output", default="", metavar="FILE", help=f"default: NAME{ENDING}; - for stdout")
    export.add_argument("--force", action="store_true", help="replace a file that is there")
    take = verbs.add_parser("import", help="a new notebook of such a file", description="a new notebook of such a file")
    take.add_argument("file", help="- for stdin")
    take.add_argument("name", nargs="?", default="", help="default: the one it was exported under")
    take.add_argument("--start", action="store_true", help="start it at once")
    take.add_argument("--yes", action="store_true", help="start it also where it asks for secrets")
    take.set_defaults(run=run_import)


def run_export(args: Any) -> int:
    pieces = render.client().export_notebook(args.name, at=args.at)
    if args.output == "-":
        if sys.stdout.isatty():
            raise UsageError("an archive is not for a terminal", hint="give a file with -o, or a pipe")
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return 0
    target = Path(args.output or f"{args.name}{ENDING}")
    if target.exists() and not args.force:
        raise Conflict(f"there is a file {target} already", hint="--force replaces it, -o names another")
    size = _write(target, pieces)
    render.say(
        f"notebook {args.name} is in {target}, {render.size(size)}: no history, token or secret is in it,"
        " but what its `env` says in plain words is"
    )
    return 0


def _write(target: Path, pieces: Iterator[bytes]) -> int:
    """Bytes written. Under its name is only what is whole."""
    making = target.with_name(f".{target.name}.{os.getpid()}.part")
    done = 0
    try:
        with making.open("xb") as file, Bar("exporting", 0) as bar:
            for piece in pieces:
                file.write(piece)
                done += len(piece)
                bar.grown(done)
            file.flush()
            os.fsync(file.fileno())
        making.replace(target)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(target)) from None
    finally:
        with suppress(OSError):
            making.unlink()
    return done


def run_import(args: Any) -> int:
    client = render.client()
    if args.file == "-":
        made = client.import_notebook(_pieces(sys.stdin.buffer, None), args.name, start=False)
    else:
        try:
            with open(args.file, "rb") as file, Bar("importing", os.fstat(file.fileno()).st_size) as bar:
                made = client.import_notebook(_pieces(file, bar), args.name, start=False)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise NotFound(f"cannot be read: {error.strerror}", where=args.file) from None
    name = made["name"]
    then = "it starts" if args.start else f"`appliance notebook start {name}` starts it"
    render.say(f"notebook {name} has the files of {args.file}; {then}")
    secrets, asks = asked_for(made["spec"])
    if asks:
        render.say(f"its spec asks for {render.clean('; '.join(asks))}")
    if not args.start:
        return 0
    if secrets and not args.yes:
        _agree(name, render.clean(", ".join(secrets)))
    client.act("notebooks", name, "start")
    return settle(client, name, "Running")


def asked_for(spec: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Which secrets and logins of this appliance a session of that spec is given, and in words all that it names."""
    named = [
        *(spec.get("secrets") or ()),
        *_references({key: value for key, value in spec.items() if key != "command"}),
    ]
    secrets = list(dict.fromkeys(named))
    login = spec.get("containerRegistry") or ""
    command = spec.get("command") or ""
    workspace = spec.get("workspace") or {}
    volumes = [*(spec.get("datasets") or {}).values(), *(spec.get("models") or {}).values()]
    words = {
        "secrets": ", ".join(secrets),
        "the registry login": login,
        "image": spec.get("image") or "",
        "command": f"`{command if isinstance(command, str) else ' '.join(map(str, command))}`" if command else "",
        "datasets and models": ", ".join(_ref(volume) for volume in volumes),
        "the repository": workspace if isinstance(workspace, str) else workspace.get("url") or "",
    }
    given = [*secrets, *([f"login {login}"] if login else ())]
    return given, [f"{what} {text}" for what, text in words.items() if text]


def _references(value: Any) -> Iterator[str]:
    """Secrets that are written as `secret:NAME`, wherever."""
    if isinstance(value, str) and value.lower().startswith("secret:"):
        yield value[len("secret:") :]
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def _ref(volume: Any) -> str:
    return str(volume.get("ref") or volume.get("id") or volume) if isinstance(volume, Mapping) else str(volume)


def _agree(name: str, secrets: str) -> None:
    if sys.stdin.isatty() and input(f"A session of it is given {secrets}. Type `yes` to start it: ").strip() == "yes":
        return
    raise Conflict(
        f"it was not started: its spec, which came with the archive, asks for {secrets}",
        where=name,
        hint=f"look at it: `appliance get notebook {name} -o yaml`; then `appliance notebook start {name}`, or --yes",
    )


def _pieces(file: BinaryIO, bar: Bar | None) -> Iterator[bytes]:
    done = 0
    while piece := file.read(PIECE):
        yield piece
        done += len(piece)
        if bar:
            bar.to(done)
