"""`appliance metrics`: what was measured, as a table, as charts in the terminal, as a picture; runs side by side."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from appliance.cli import metrics_shown as shown
from appliance.cli import render
from appliance.cli.since import since
from appliance.client import Client, curves
from appliance.errors import NotFound, UsageError

if TYPE_CHECKING:
    from appliance import wire

MEASURED = {"notebook": "notebooks", "run": "runs", "deployment": "deployments"}
"""Kinds whose metrics are kept, and what the API calls them; beside them there is the machine."""
MACHINE = "machine"
LIMIT = 100_000
"""Points of one series; the API gives no more."""
LOOK_BACK_S = 3600.0
"""Of what does not end: so much is shown where nobody says since when."""
LONG_S = 10_000.0
"""Of a longer time the means of buckets are asked for, of what is sampled by the clock."""
BUCKETS = 2000
WIDTHS_S = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
COLUMNS = (
    *("at", "kind", "name", "part", "container", "metric", "labels"),
    *("value", "step", "least", "most"),
)
WHOM = "notebook/NAME, run/WORKFLOW.N, deployment/NAME, each also with /PART, or machine"


@dataclass(slots=True)
class Subject:
    kind: str
    name: str = ""
    part: str = ""
    since: float = 0.0
    began: float | None = None
    ended: float | None = None

    def __str__(self) -> str:
        return "/".join(filter(None, (self.kind, self.name, self.part)))

    @property
    def query(self) -> dict[str, object]:
        return {"kind": self.kind, "name": self.name, "part": self.part}


@dataclass(slots=True)
class Asked:
    subjects: list[Subject] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)


def configure_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="KIND/NAME [METRIC ...]", help=f"{WHOM}; without any: who has some")
    parser.add_argument(
        "--compare", nargs="+", default=(), metavar="KIND/NAME", help="side by side, metrics after them"
    )
    parser.add_argument("-m", "--metric", action="append", default=[], help="one more, also if it reads like KIND/NAME")
    parser.add_argument("--since", default="", metavar="TIME", help="10m, 2h, 1d, or unix seconds; a run: all of it")
    parser.add_argument("--every", type=_seconds, default=0.0, metavar="TIME", help="means of so long: 10, 10s, 5m, 1h")
    parser.add_argument("-f", "--follow", action="store_true", help="each new point, until Ctrl-C")
    parser.add_argument("-o", "--output", choices=("table", "json", "csv"), default="table")
    parser.add_argument("--png", default="", metavar="FILE", help="write the charts as a picture")
    parser.add_argument("--svg", default="", metavar="FILE", help="the same, as a drawing of any size")
    parser.set_defaults(run=run_metrics)


def run_metrics(args: argparse.Namespace) -> int:
    asked = _asked(args)
    if args.follow and (args.compare or args.png or args.svg or args.every):
        raise UsageError("--follow goes with none of --compare, --png, --svg and --every")
    client = render.client()
    if not asked.subjects:
        return _list(client, args)
    for subject in asked.subjects:
        _find(client, subject, args.since)
    if args.follow:
        return _follow(client, asked, args)
    found = [(subject, _series(client, subject, asked.metrics, args)) for subject in asked.subjects]
    for subject, series in found:
        if not any(one["points"] for one in series):
            _tell_none(client, subject, asked.metrics)
        for one in series:
            if one["cut"]:
                render.say(
                    f"{render.clean(one['metric'])}: only the newest {len(one['points'])} points; --every shows all"
                )
    if args.compare:
        return _compare(found, asked, args)
    return _show(found[0][1], asked, args)


def _asked(args: argparse.Namespace) -> Asked:
    """What each word is. Raises UsageError."""
    words = [*args.words, *args.compare]
    asked = Asked(metrics=list(args.metric))
    for number, word in enumerate(words):
        subject = _subject(word)
        if subject and (args.compare or number == 0):
            asked.subjects.append(subject)
        elif number == 0 and not args.compare:
            raise UsageError(f"{word!r} has no metrics", hint=WHOM)
        else:
            asked.metrics.append(word)
    if args.compare and len(asked.subjects) < 2:
        raise UsageError("--compare takes at least two, such as run/fit.12 run/fit.13", hint=WHOM)
    return asked


def _subject(word: str) -> Subject | None:
    kind, _, rest = word.partition("/")
    name, _, part = rest.partition("/")
    kind = kind.removesuffix("s")
    if word == MACHINE:
        return Subject(MACHINE)
    return Subject(kind, name, part) if kind in MEASURED and name else None


def _find(client: Client, subject: Subject, given: str) -> None:
    """Its full name and its times, where it is still there; of what is gone metrics may be left."""
    now = time.time()
    subject.since = since(given)
    if subject.kind == MACHINE:
        subject.since = subject.since or now - LOOK_BACK_S
        return
    try:
        found = client.get(MEASURED[subject.kind], subject.name)
    except NotFound:
        return
    if subject.kind == "run":
        subject.name, subject.began, subject.ended = found["name"], found["started"], found["finished"]
        subject.since = subject.since or subject.began or 0.0
    else:
        subject.since = subject.since or now - LOOK_BACK_S


def _series(
    client: Client, subject: Subject, metrics: Sequence[str], args: argparse.Namespace
) -> list[wire.MetricSeries]:
    """Of a long time, what is sampled by the clock comes as means: more points than columns show nothing more."""
    query = {**subject.query, "since": subject.since, "limit": LIMIT, "every": args.every}
    width = 0.0 if args.every or args.output != "table" else _width((subject.ended or time.time()) - subject.since)
    if not width or not subject.since:
        return [one for metric in metrics or ("",) for one in client.metrics(**query, metric=metric)]
    names = metrics or sorted({one["metric"] for one in client.metric_names(**subject.query)})
    wide = {name: width for name in names if name.startswith(curves.SAMPLED)}
    return [one for name in names for one in client.metrics(**{**query, "every": wide.get(name, 0.0)}, metric=name)]


def _width(span_s: float) -> float:
    """Of the buckets of so long a time; 0: none are needed."""
    if span_s <= LONG_S:
        return 0.0
    return float(next((width for width in WIDTHS_S if width * BUCKETS >= span_s), WIDTHS_S[-1]))


def _tell_none(client: Client, subject: Subject, metrics: Sequence[str]) -> None:
    """Raises NotFound for what is not there at all, and where metrics were named that it has not."""
    names = sorted({one["metric"] for one in client.metric_names(**subject.query)}, key=curves.order)
    if not names and subject.kind in MEASURED:
        client.get(MEASURED[subject.kind], subject.name)
    if metrics:
        known = f"it has {', '.join(names)}" if names else "nothing of it has been measured yet"
        raise NotFound(f"no {' or '.join(metrics)} in that time", where=str(subject), hint=known)
    render.say(f"{subject}: nothing was measured {'in that time; see --since' if names else 'yet'}")


def _list(client: Client, args: argparse.Namespace) -> int:
    if args.metric or args.png or args.svg or args.follow:
        raise UsageError("whose metrics?", hint=WHOM)
    names = client.metric_names()
    if args.output == "json":
        render.data(names, "json")
        return 0
    having: dict[tuple[str, ...], set[str]] = {}
    for one in names:
        having.setdefault((one["kind"], one["name"], one["part"]), set()).add(one["metric"])
    rows = [
        (render.clean("/".join(filter(None, whose))), len(found), ", ".join(sorted(found, key=curves.order)))
        for whose, found in sorted(having.items())
    ]
    if args.output == "csv":
        _csv(("whose", "count", "metrics"), rows)
    else:
        render.table(("whose", "count", "metrics"), rows, empty="nothing was measured yet")
    return 0


def _show(series: list[wire.MetricSeries], asked: Asked, args: argparse.Namespace) -> int:
    _pictures(args, lambda: shown.charts(curves.curves(series)))
    if args.output == "json":
        render.data(series, "json")
    elif args.output == "csv":
        _csv(COLUMNS, (row for one in series for row in _rows(one)))
    else:
        found = [curve for curve in curves.curves(series) if curve.points]
        shown.table(found)
        if asked.metrics:
            shown.draw(shown.charts(found))
    return 0


def _compare(found: Sequence[tuple[Subject, list[wire.MetricSeries]]], asked: Asked, args: argparse.Namespace) -> int:
    sides = [(str(subject), subject.began, curves.curves(series)) for subject, series in found]
    comparisons = curves.compared(sides)
    _pictures(args, lambda: shown.compared_charts(comparisons))
    if args.output == "json":
        render.data([shown.compared_document(one) for one in comparisons], "json")
    elif args.output == "csv":
        columns = ("metric", "part", "whose", "along", "x", "value")
        _csv(columns, (row for one in comparisons for row in shown.compared_rows(one)))
    else:
        shown.compared_table(comparisons)
        charts = shown.compared_charts(comparisons)
        shown.draw(charts if asked.metrics else charts[: shown.UNASKED])
        if len(charts) > shown.UNASKED and not asked.metrics:
            render.say(f"{len(charts) - shown.UNASKED} more are not drawn: name the metrics that you want to see")
    return 0


def _pictures(args: argparse.Namespace, charts: Callable[[], list[Any]]) -> None:
    """Raises UsageError where the file cannot be written."""
    for file, form in ((args.png, "png"), (args.svg, "svg")):
        if not file:
            continue
        from appliance.charts import picture  # deferred: matplotlib takes a second to import, or several

        drawn = charts()
        if not drawn:
            raise NotFound("there is nothing to draw", where=file, hint="without --png and --svg it tells why")
        try:
            with open(file, "wb") as out:
                out.write(picture.render(drawn, form))  # type: ignore[arg-type]
        except OSError as error:
            raise UsageError(f"the picture cannot be written: {error.strerror}", where=file) from error
        render.say(f"{render.clean(file)}: {min(len(drawn), picture.MOST_CHARTS)} of {len(drawn)} charts")


def _follow(client: Client, asked: Asked, args: argparse.Namespace) -> int:
    """Begins with the newest point of each series, or with those `--since`."""
    (subject,) = asked.subjects
    only = asked.metrics[0] if len(asked.metrics) == 1 else ""
    begin: dict[str, object] = {"since": subject.since, "limit": LIMIT} if args.since else {"limit": 1}
    if args.output == "csv":
        _csv(COLUMNS, ())
    for one in client.follow_metrics(**subject.query, metric=only, **begin):
        if asked.metrics and one["metric"] not in asked.metrics:
            continue
        if args.output == "json":
            print(json.dumps(one, ensure_ascii=False))
        elif args.output == "csv":
            _csv((), _rows(one))
        else:
            shown.points(one)
        sys.stdout.flush()
    return 0


def _rows(one: wire.MetricSeries) -> Iterable[tuple[object, ...]]:
    about = (one["kind"], one["name"], one["part"], one["container"], one["metric"], json.dumps(one["labels"]))
    for point in one["points"]:
        more = (point.get("step"), point.get("least"), point.get("most"))
        yield (point["at"], *about, point["value"], *more)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if header:
        writer.writerow(header)
    writer.writerows(rows)


def _seconds(text: str) -> float:
    units = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 10, 10s, 5m or 1h")
    return float(found[1]) * units[found[2]]
