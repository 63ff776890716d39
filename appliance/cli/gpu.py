"""`appliance gpu`: who has the GPUs, who waits and for what, what they came to; a card out of service and back."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.cli import render
from appliance.cli.since import since
from appliance.client import gpu_words
from appliance.errors import NotFound, UsageError

BY = ("owner", "name", "kind", "device")
LOOK_S = 1.0
JOULES_OF_KWH = 3.6e6
LEDGER_WORDS = "energy is what the cards took while they were held, at rest too"
ESTIMATED = "~ marks energy that was estimated from what a card took for several together, or from its power"

Document = Mapping[str, Any]


def configure_gpu(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    parser.set_defaults(run=run_list, output="table")
    for verb, text, run in (
        ("list", "the cards, what they do and who has them; also without a verb", run_list),
        ("queue", "who has GPUs, who waits, why, behind whom and until when", run_queue),
    ):
        listing = verbs.add_parser(verb, help=text)
        listing.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
        listing.set_defaults(run=run)
    top = verbs.add_parser("top", help="the list again each second, until Ctrl-C")
    top.add_argument("--every", type=render.positive, default=LOOK_S, metavar="SECONDS")
    top.set_defaults(run=run_top)
    ledger = verbs.add_parser("ledger", help="GPU hours held and used, memory and energy")
    ledger.add_argument("--by", choices=BY, default="owner")
    ledger.add_argument("--since", default="7d", metavar="TIME", help="10m, 2h, 7d, or unix seconds; default 7d")
    ledger.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    ledger.set_defaults(run=run_ledger)
    drain = verbs.add_parser("drain", help="nothing new is put on a card; what runs there goes on")
    drain.add_argument("card", help="its UUID or the beginning of it, or its number in the list")
    drain.add_argument("--why", default="", help="shown to whoever waits for it")
    drain.set_defaults(run=run_drain)
    resume = verbs.add_parser("resume", help="a card is given again")
    resume.add_argument("card", help="as for drain")
    resume.set_defaults(run=run_resume)


def run_list(args: argparse.Namespace) -> int:
    found = render.client().gpus()
    if args.output != "table":
        render.data(found, args.output)
        return 0
    _show(found)
    return 0


def run_top(args: argparse.Namespace) -> int:
    client = render.client()
    live = sys.stdout.isatty()
    while True:
        found = client.gpus()
        if live:
            print("\x1b[H\x1b[J", end="")
        _show(found)
        sys.stdout.flush()
        time.sleep(args.every)
        if not live:
            print()


def run_queue(args: argparse.Namespace) -> int:
    rows = render.client().leases()
    if args.output != "table":
        render.data(rows, args.output)
        return 0
    waiting = [row for row in rows if row["state"] == "waiting"]
    having = [row for row in rows if row["state"] != "waiting"]
    header = ("who", "owner", "has", "since", "priority", "detail")
    render.table(header, [_having(row) for row in having], empty="nobody has a GPU")
    if waiting:
        print()
        columns = ("place", "who", "owner", "asks for", "since", "begins", "why")
        render.table(columns, [_waits(row) for row in waiting], empty="")
    else:
        render.say("nobody waits for a GPU")
    return 0


def run_ledger(args: argparse.Namespace) -> int:
    found = render.client().gpu_ledger(args.by, since(args.since))
    if args.output != "table":
        render.data(found, args.output)
        return 0
    header = (args.by, "gpu hours", "used", "memory", "energy")
    render.table(header, [_use(row) for row in found["items"]], empty="no GPU was held in that time")
    if found["items"]:
        render.say(LEDGER_WORDS)
    if any(row["energy_j"] is not None and not row["measured"] for row in found["items"]):
        render.say(ESTIMATED)
    return 0


def run_drain(args: argparse.Namespace) -> int:
    client = render.client()
    uuid = pick(client.gpus()["items"], args.card)
    client.drain_gpu(uuid, args.why)
    render.say(f"nothing new is put on {uuid}; `appliance gpu resume {uuid}` gives it again")
    return 0


def run_resume(args: argparse.Namespace) -> int:
    client = render.client()
    uuid = pick(client.gpus()["items"], args.card)
    client.resume_gpu(uuid)
    render.say(f"{uuid} is given again")
    return 0


def pick(gpus: Sequence[Document], wanted: str) -> str:
    """The UUID of a card or of an instance. Raises NotFound, UsageError where several begin like that."""
    by_number = {str(gpu["index"]): gpu["uuid"] for gpu in gpus}
    if wanted in by_number:
        return str(by_number[wanted])
    names: set[str] = {gpu["uuid"] for gpu in gpus} | {card["uuid"] for gpu in gpus for card in gpu["cards"]}
    if wanted in names:
        return wanted
    found = sorted(name for name in names if wanted and name.lower().startswith(wanted.lower()))
    if len(found) > 1:
        raise UsageError(f"{wanted!r} may be {', '.join(found)}", hint="write more of it")
    if not found:
        raise NotFound(f"no GPU {wanted!r} here", hint="`appliance gpu` lists them")
    return found[0]


def _show(found: Any) -> None:
    header = ("gpu", "name", "busy", "memory", "power", "temp", "state", "who")
    rows = [row for gpu in found["items"] for row in _card_rows(gpu)]
    render.table(header, rows, empty=render.one_line(found["message"]) or "no GPU here")
    for gpu in found["items"]:
        for words in filter(None, (gpu["lost"], gpu["fault"], "; ".join(gpu["throttled"]))):
            render.say(f"GPU {gpu['index']}: {render.clean(words)}")
    if found["items"] and not found["ok"]:
        render.say(render.clean(found["message"]))


def _card_rows(gpu: Document) -> list[render.Row]:
    """One of a whole card; of one that is split, itself and each of its instances."""
    own = gpu_words.whole(gpu)
    first = (
        *(gpu["index"], gpu["name"], gpu_words.number(gpu["utilisation"], "%"), _memory(gpu), gpu_words.power(gpu)),
        *(gpu_words.number(gpu["temperature"], " C"), "split" if _split(gpu) else _state(own)),
        "" if gpu["split"] else gpu_words.holders(own),
    )
    parts = [
        (
            "",
            f"  {card['profile']} {card['uuid'][:12]}",
            "-",
            _memory(card),
            "",
            "",
            _state(card),
            gpu_words.holders(card),
        )
        for card in (gpu["cards"] if gpu["split"] else ())
    ]
    return [first, *parts]


def _split(gpu: Document) -> bool:
    return bool(gpu["split"] and not gpu["lost"])


def _state(card: Document) -> str:
    return render.one_line(gpu_words.state(card))


def _memory(card: Document) -> str:
    return f"{render.size(card['used'])} of {render.size(card['memory'])}"


def _having(row: Document) -> render.Row:
    has = f"{row['asks']}: {' '.join(row['cards'])}"
    detail = row["message"] or ("being freed" if row["state"] == "freeing" else "")
    return (gpu_words.name(row), row["owner"], has, render.age(row["since"]), row["priority"], render.one_line(detail))


def _waits(row: Document) -> render.Row:
    why = "; ".join(filter(None, (row["why"], row["behind"])))
    begins = render.ahead(row["forecast"]) if row["forecast"] else "nobody knows"
    place = row["place"] or "-"
    return (
        place,
        gpu_words.name(row),
        row["owner"],
        row["asks"],
        render.age(row["asked"]),
        begins,
        render.one_line(why),
    )


def _use(row: Document) -> render.Row:
    memory = "-" if row["memory_gb_h"] is None else f"{row['memory_gb_h']:.1f} GB h"
    return (row["key"], f"{row['held_s'] / 3600:.2f}", _used(row), memory, energy(row["energy_j"], row["measured"]))


def _used(row: Document) -> str:
    if row["used_s"] is None:
        return "-"
    part = f" ({min(1.0, row['used_s'] / row['held_s']):.0%})" if row["held_s"] > 0 else ""
    return f"{row['used_s'] / 3600:.2f}{part}"


def energy(joules: float | None, measured: bool) -> str:
    if joules is None:
        return "-"
    mark = "" if measured else "~"
    if joules >= JOULES_OF_KWH / 10:
        return f"{mark}{joules / JOULES_OF_KWH:.2f} kWh"
    return f"{mark}{joules / 3600:.1f} Wh"
