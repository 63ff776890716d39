"""What starts a workflow by itself: Gradient's `on.github`, and our schedule, dataset, folder, spec and webhook."""

from __future__ import annotations

import zoneinfo
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from appliance.spec.fields import Fields, read_text
from appliance.spec.models import Patterns, Schedule, Triggers
from appliance.spec.problems import Mark, Problems, quoted
from appliance.spec.refs import check_dataset_name, check_pattern
from appliance.spec.sources import read_secret
from appliance.spec.tree import Node, item_path, to_plain

ON_KEYS = ("on", "true", "True", "TRUE", "On", "ON")
"""`on` is true for YAML 1.1, and what passed through such a reader has that for a key."""
MOST_CRON = 200
"""Characters."""
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)
"""A leap year's first moment: whatever comes at all comes within the years after it."""
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_GITHUB_FORM = "such as `on: {github: {branches: {only: main}}}`"
_GRADIENT_ONLY = "Gradient starts on `github` only: remove it, and start the run from outside"
_ON_HINTS = {
    "push": "write `github: {branches: {only: main}}`",
    "pull_request": "write `github: {branches: {only: main}}`",
    "workflow_dispatch": "remove it; every workflow can be started by hand",
    "cron": "write `schedule: [{cron: ..., timezone: ...}]`",
    "branches": "write `github: {branches: ...}`",
    "tags": "write `github: {tags: ...}`",
    "datasets": "write `dataset`",
    "folders": "write `folder`",
}
_SYSTEM = ("/proc", "/sys", "/dev", "/run")


def read_triggers(top: Fields) -> tuple[dict[str, Any], Triggers]:
    """The trigger as written, and what it means."""
    given = [key for key in ON_KEYS if key in top]
    if not given:
        top.node("on")
        return {}, Triggers()
    for other in given[1:]:
        top.node(other)
        top.error(other, f"the trigger is given as `{given[0]}` already", "keep one")
    node, on = top.node(given[0]), top.map(given[0], hint=_GITHUB_FORM)
    if node is None or on is None:
        return {}, Triggers()
    branches, tags = _github(on)
    triggers = Triggers(
        branches=branches,
        tags=tags,
        schedule=_schedule(on),
        datasets=_datasets(on),
        folders=_folders(on),
        spec=_spec(on),
        webhook=_webhook(on),
    )
    on.close(_ON_HINTS)
    if on.empty:
        top.error(given[0], "says nothing that could start the workflow", f"{_GITHUB_FORM}, or remove it")
    found = to_plain(node)
    return (dict(found) if isinstance(found, dict) else {}), triggers


def _github(on: Fields) -> tuple[Patterns | None, Patterns | None]:
    """Branches and tags; a `github` without either means a push to any branch."""
    github = on.map("github", hint=_GITHUB_FORM)
    if github is None:
        return None, None
    branches, tags = _patterns(github, "branches"), _patterns(github, "tags")
    github.close({"branch": "write `branches: {only: ...}`", "tag": "write `tags: {only: ...}`"})
    if branches is None and tags is None:
        return Patterns(), None
    return branches, tags


def _patterns(github: Fields, key: str) -> Patterns | None:
    fields = github.map(key, hint="such as `only: main`, or `include: [main, 'release/*']`")
    if fields is None:
        return None
    only = fields.text("only")
    if node := fields.node("only"):
        check_pattern(only, node.mark, fields.at("only"), fields.problems)
    found = Patterns(only=only, include=_names(fields, "include"), ignore=_names(fields, "ignore"))
    if "include" in fields and not found.include:
        fields.warn("include", f"names nothing, so any of the {key} is meant", "remove it")
    fields.close({"exclude": "write `ignore`", "except": "write `ignore`", "name": "write `only`"})
    return found


def _names(fields: Fields, key: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for path, node in fields.items(key, what="a list of names", hint="such as `[main, 'release/*']`"):
        text = read_text(node, path, fields.problems)
        check_pattern(text, node.mark, path, fields.problems)
        names[text] = None
    return tuple(names)


def _schedule(on: Fields) -> tuple[Schedule, ...]:
    on.extension("schedule", "Gradient has no clock: remove it, and let cron call `gradient workflows run`")
    hint = 'such as `- {cron: "0 3 * * *", timezone: Europe/Berlin}`'
    found = []
    for path, node in on.items("schedule", what="a list of cron and timezone", hint=hint):
        item = Fields(node, path, on.problems, what="a map of cron and timezone", hint=hint)
        if not isinstance(node.value, dict):
            continue
        cron = item.text("cron", required=True, hint='such as "0 3 * * *"')
        if cron and (wrong := cron_problem(cron)):
            item.error("cron", f"{quoted(cron)} {wrong[0]}", wrong[1])
        zone = item.text("timezone", required=True, hint="such as Europe/Berlin, or UTC")
        if zone and zone not in _zones():
            hint = _nearest_zone(zone, on.problems) or "use an IANA name, such as Europe/Berlin or UTC"
            item.error("timezone", f"{quoted(zone)} is not a time zone", hint)
        item.close({"tz": "write `timezone`", "expression": "write `cron`"})
        found.append(Schedule(cron=cron, timezone=zone))
    _not_empty(on, "schedule")
    return tuple(found)


def cron_problem(text: str) -> tuple[str, str] | None:
    """What is wrong with a cron expression, and a hint; None: it is right, and its time will come."""
    if text in _MACROS:
        return "is a name that not every cron knows", f'write "{_MACROS[text]}"'
    if len(text) > MOST_CRON or not text.isascii() or not text.isprintable():
        return "is not a cron expression", "five fields, such as 0 3 * * *"
    if len(text.split()) != 5:
        count = len(text.split())
        return f"must have 5 fields, not {count}", "minute, hour, day of month, month, day of week: 0 3 * * *"
    from cronsim import CronSim, CronSimError  # deferred: few files have a schedule

    try:
        next(CronSim(text, _FIRST))
    except CronSimError as error:
        return f"is not a cron expression: {str(error).replace('Bad', 'wrong').lower()}", "such as 0 3 * * *"
    except StopIteration:
        return "is a time that never comes", "check day and month"
    return None


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _nearest_zone(text: str, problems: Problems) -> str:
    """Of the same continent, or of that city on any continent: comparing with all would be slow."""
    if problems.full:
        return ""
    area, _, city = text.rpartition("/")
    wanted = city.casefold().replace(" ", "_")
    same = [zone for zone in _zones() if zone.casefold().rpartition("/")[2] == wanted or zone.casefold() == wanted]
    return problems.nearest(
        text, same or [zone for zone in _zones() if zone.casefold().startswith(f"{area.casefold()}/")]
    ) or (f"did you mean {quoted(min(same))}?" if same else "")


def _datasets(on: Fields) -> tuple[str, ...]:
    on.extension("dataset", _GRADIENT_ONLY)
    names: dict[str, None] = {}
    for path, node in _one_or_more(on, "dataset", "a dataset's name, or a list of them"):
        text = read_text(node, path, on.problems)
        check_dataset_name(text, node.mark, path, on.problems)
        names[text] = None
    return tuple(names)


def _folders(on: Fields) -> tuple[str, ...]:
    on.extension("folder", _GRADIENT_ONLY)
    folders: dict[str, None] = {}
    for path, node in _one_or_more(on, "folder", "an absolute path, or a list of them"):
        text = read_text(node, path, on.problems)
        if text:
            _check_folder(text, node.mark, path, on.problems)
        folders[text.rstrip("/")] = None
    return tuple(folders)


def _check_folder(text: str, mark: Mark, path: str, problems: Problems) -> None:
    parts = text.strip("/").split("/")
    if not text.startswith("/") or {"", ".", ".."} & set(parts) or not text.isprintable():
        hint = "such as /home/you/data, without `~`, `..` and variables"
        problems.error(mark, path, f"{quoted(text)} is not the absolute path of a folder", hint)
    elif any(text == folder or text.startswith(f"{folder}/") for folder in _SYSTEM):
        problems.error(mark, path, f"{quoted(text)} belongs to the system and changes all the time")


def _spec(on: Fields) -> bool:
    on.extension("spec", _GRADIENT_ONLY)
    return on.flag("spec")


def _webhook(on: Fields) -> str:
    on.extension("webhook", _GRADIENT_ONLY)
    webhook = on.map("webhook", hint="such as `webhook: {secret: secret:NAME}`")
    if webhook is None:
        return ""
    webhook.node("secret", required=True, hint="`appliance secret set NAME`, then write secret:NAME")
    secret = read_secret(webhook, "secret")
    webhook.close()
    return secret


def _one_or_more(on: Fields, key: str, what: str) -> Sequence[tuple[str, Node]]:
    node = on.node(key)
    if node is None:
        return ()
    if not isinstance(node.value, list):
        if isinstance(node.value, dict):
            on.error(key, f"must be {what}, not a map")
            return ()
        return [(on.at(key), node)]
    if not node.value:
        _not_empty(on, key)
    return [(item_path(on.at(key), index), item) for index, item in enumerate(node.value)]


def _not_empty(on: Fields, key: str) -> None:
    node = on.node(key)
    if node is not None and node.value == []:
        on.error(key, "must have at least one item", "or remove it")
