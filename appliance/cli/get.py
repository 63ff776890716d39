"""`appliance get KIND [NAME]`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from appliance.cli import render, use
from appliance.cli.jobs import show_jobs
from appliance.client import gpu_words, words
from appliance.errors import UsageError

Document = dict[str, Any]


def _resource(item: Document) -> render.Row:
    detail = item["problem"] or item["message"] or item["url"]
    return (item["name"], item["phase"], item["generation"], item["source"], render.age(item["created"]), _line(detail))


def _deployment(item: Document) -> render.Row:
    *before, since, _ = _resource(item)
    return (*before, item["status"].get("ready", 0), since, _line(words.detail(item, time.time())))


def _run(run: Document) -> render.Row:
    cause = f"{run['cause']} {run['parent']}" if run["parent"] else run["cause"]
    return (run["name"], run["phase"], cause, render.age(run["created"]), render.took(run), _detail(run))


def _workflow(item: Document) -> render.Row:
    *before, since, detail = _resource(item)
    return (*before, since, render.ahead(item.get("next_run")), detail)


def _repository(item: Document) -> render.Row:
    status = item["status"]
    looked = render.age(status["looked"]) if status.get("looked") else "-"
    newest = f"{status['ref'].rpartition('/')[2]} {status['commit'][:12]}" if status.get("commit") else "-"
    started = " ".join(status.get("started") or ()) or "-"
    return (item["name"], item["phase"], looked, newest, started, _line(item["problem"] or item["message"]))


def _detail(row: Document) -> str:
    return _line(render.detail(row["phase"], row["message"]))


def _line(text: str) -> str:
    return text.split("\n")[0]


def _machine(row: Document) -> render.Row:
    also = f"also {', '.join(row['also'])}" if row["also"] else ""
    note = "; ".join(filter(None, (also, row["warning"])))
    return (row["name"], row["source"], row["gives"], "-" if row["free"] is None else row["free"], note)


def _gpu(row: Document) -> render.Row:
    own = gpu_words.whole(row)
    memory = f"{render.size(row['used'])} of {render.size(row['memory'])}"
    who = gpu_words.holders(own)
    return (row["index"], row["uuid"], row["name"], memory, _line(gpu_words.state(own)), who)


def _lease(row: Document) -> render.Row:
    detail = "; ".join(filter(None, (row["why"], row["behind"], row["message"])))
    place = row["place"] or "-"
    return (
        gpu_words.name(row),
        row["owner"],
        row["state"],
        row["asks"],
        place,
        render.age(row["asked"]),
        _line(detail),
    )


def _model(row: Document) -> render.Row:
    return (row["id"], row["name"], row["type"], row["dataset"], row["version"], render.age(row["created"]))


def _secret(row: Document) -> render.Row:
    return (row["name"], render.age(row["updated"]))


def _registry(row: Document) -> render.Row:
    return (row["name"], row["url"], row["username"], render.age(row["updated"]))


def _spec_file(row: Document) -> render.Row:
    state = "BROKEN" if row["problem"] else "in force"
    return (row["name"], state, " ".join(row["declares"]), _line(row["problem"]))


def _event(row: Document) -> render.Row:
    return (
        render.clock(row["at"]),
        row["level"],
        f"{row['kind']}/{row['name']}",
        row["reason"],
        _line(row["message"]),
    )


RESOURCE = ("name", "phase", "gen", "source", "age", "detail")
TABLES: dict[str, tuple[tuple[str, ...], Callable[[Document], render.Row], str]] = {
    "notebooks": (RESOURCE, _resource, "no notebooks yet: `appliance notebook create NAME`"),
    "workflows": ((*RESOURCE[:-1], "next run", "detail"), _workflow, "no workflows yet: `appliance workflow run FILE`"),
    "deployments": (
        ("name", "phase", "gen", "source", "ready", "age", "detail"),
        _deployment,
        "no deployments yet: `appliance apply -f FILE`",
    ),
    "datasets": (RESOURCE, _resource, "no datasets yet: `appliance dataset create NAME`"),
    "runs": (("name", "phase", "cause", "age", "took", "detail"), _run, "no runs yet: `appliance workflow run FILE`"),
    "repositories": (
        ("name", "phase", "looked", "newest push", "started", "detail"),
        _repository,
        "no repositories yet: `appliance apply -f FILE` with `kind: repository`",
    ),
    "machines": (("name", "source", "gives here", "free now", "note"), _machine, "no machine types"),
    "gpus": (("gpu", "uuid", "name", "memory", "state", "who"), _gpu, "no GPU here"),
    "leases": (
        ("who", "owner", "state", "asks for", "place", "asked", "detail"),
        _lease,
        "nobody has a GPU, and nobody waits for one",
    ),
    "models": (("id", "name", "type", "dataset", "version", "age"), _model, "no models yet: create-model@v1 makes one"),
    "secrets": (("name", "set"), _secret, "no secrets yet: `appliance secret set NAME`"),
    "registries": (
        ("name", "url", "username", "set"),
        _registry,
        "no registries yet: `appliance registry add NAME --url URL --username NAME`",
    ),
    "specs": (("name", "state", "declares", "detail"), _spec_file, "the watched folder holds no spec"),
    "events": (("time", "level", "subject", "reason", "message"), _event, "no events yet"),
}


def configure_get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", help=", ".join(TABLES))
    parser.add_argument("name", nargs="?")
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    kind = plural(args.kind)
    client = render.client()
    found: Any = client.get(kind, args.name) if args.name else client.items(kind)
    if args.output != "table":
        render.data(found, args.output)
        return 0
    header, row, empty = TABLES[kind]
    items = [found] if args.name else found
    render.table(header, [row(item) for item in items], empty=empty)
    if args.name and kind == "notebooks" and found["status"].get("quota"):
        used, quota = found["status"].get("quota_used"), found["status"]["quota"]
        print(f"\nquota: {'not counted yet' if used is None else render.size(used)} of {render.size(quota)}")
    if args.name and kind == "notebooks" and (used := use.line(found["status"].get("idle"))):
        print(f"\nuse: {used}")
    if args.name and kind == "repositories":
        print(f"\nurl: {render.clean(found['spec']['url'])}")
    if args.name and kind == "runs":
        print()
        show_jobs(found)
    if kind == "machines" and not args.name:
        print("\nNAMExN gives N times as many GPUs, Free-NAME the same behind all others. Your own: [machines.NAME] in")
        print("config.toml; a name that nobody knows gets the one of the setting `machine`.")
    if kind in ("notebooks", "workflows", "deployments", "datasets", "repositories") and not args.name:
        _tell_broken_specs(client)
    return 0


def plural(kind: str) -> str:
    """The kind in the plural. Raises UsageError for one that there is not."""
    for candidate in (kind, f"{kind}s", f"{kind.removesuffix('y')}ies"):
        if candidate in TABLES:
            return candidate
    import difflib  # deferred: only a typing mistake needs it

    near = difflib.get_close_matches(kind, TABLES, n=1)
    known = f"did you mean {near[0]}?" if near else f"kinds: {', '.join(TABLES)}"
    raise UsageError(f"no kind {kind!r}", hint=known)


def _tell_broken_specs(client: Any) -> None:
    for found in client.items("specs"):
        if found["problem"]:
            render.say(f"spec file {found['name']} is not in force: {found['problem']}")
