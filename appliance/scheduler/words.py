"""What is said of the queue: why something waits, behind whom, since when and until when probably.

The words stay the same while the state of affairs does: moments in place of ages, forecasts in steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from appliance.scheduler.types import Card, Held, Request, Wait, Who
from appliance.spec.machines import Shape

STEPS = ((600.0, 60.0), (3_600.0, 300.0), (21_600.0, 900.0), (float("inf"), 3_600.0))
"""A forecast less than so many seconds off is told to a multiple of so many."""
NAMED = 3
FETCHING = "it cannot begin yet, its own message says why; it keeps its place and holds no GPU meanwhile"


def said(wait: Wait, request: Request, now: float) -> str:
    """The whole sentence of one that waits."""
    if not wait.place:
        return wait.why
    place = "it is the next" if wait.place == 1 else f"place {wait.place} in the queue"
    parts = [wait.why, place, wait.behind, f"since {moment(request.asked, now)}", forecast(wait.forecast, now)]
    return "; ".join(part for part in parts if part)


def forecast(at: float | None, now: float) -> str:
    if at is None:
        return "nobody knows when it can begin"
    step = next(step for most, step in STEPS if at - now < most)
    return f"it begins at about {moment(-(-at // step) * step, now)}"


def moment(at: float, now: float) -> str:
    then = datetime.fromtimestamp(at, UTC)
    same = then.date() == datetime.fromtimestamp(now, UTC).date()
    return f"{then:%H:%M} UTC" if same else f"{then:%d %b %H:%M} UTC"


def who(asks: Who) -> str:
    if asks.kind == "execution":
        return f"a run of notebook {asks.name}"
    if asks.kind == "run" and asks.part:
        return f"job {asks.part} of run {asks.name}"
    return f"{asks.kind} {asks.name}"


def listed(names: Sequence[str]) -> str:
    """Each once, the first few of them by name."""
    once = list(dict.fromkeys(names))
    return counted(once[: NAMED + 1], len(once))


def counted(first: Sequence[str], count: int) -> str:
    """The same of `count` different names, of which these are the first NAMED + 1."""
    shown = first[:NAMED] if count > NAMED + 1 else first
    if count > len(shown):
        return f"{', '.join(shown)} and {count - len(shown)} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else ""


def size(count: int) -> str:
    gib = count / 2**30
    return f"{gib:.0f} GiB" if gib >= 10 or gib == int(gib) else f"{gib:.1f} GiB"


def shape(asked: Shape, need: int) -> str:
    """As `2 GPUs with at least 16 GiB`."""
    if asked.mig:
        thing = f"{need} MIG instances of {asked.mig}" if need > 1 else f"a MIG instance of {asked.mig}"
    else:
        thing = f"{need} GPUs" if need > 1 else "a GPU"
    if asked.model:
        thing += f" of the kind {asked.model}"
    if asked.share:
        thing = f"{size(asked.share)} of {thing}, shared with others"
    return thing + (f" with at least {size(asked.least)}" if asked.least else "")


def impossible(asked: Shape, need: int, cards: Sequence[Card], matching: int) -> str:
    """Why this machine never can; `matching` of its cards would do."""
    if not cards:
        return f"it asks for {shape(asked, need)}, and this machine has no GPU"
    if matching:
        return f"it asks for {shape(asked, need)}, and this machine has {matching} like that; ask for fewer"
    if asked.mig:
        found = sorted({card.profile for card in cards if card.kind == "mig"})
        there = f"its GPUs are split into {listed(found)}" if found else "no GPU of it is split by MIG"
    elif all(card.kind == "mig" for card in cards):
        there = "each GPU of it is split by MIG: ask for an instance"
    else:
        there = f"it has {listed([_card(card) for card in cards if card.kind == 'whole'])}"
    return f"it asks for {shape(asked, need)}; this machine cannot give it: {there}"


def unusable(asked: Shape, need: int, bad: Sequence[tuple[Card, str]], good: int) -> str:
    """Why it cannot be given as the cards are now, though it could if all were well."""
    told = listed([f"{card.model or 'a GPU'} ({card.id}) {why}" for card, why in bad])
    return f"it asks for {shape(asked, need)}, and only {good} like that can be given now: {told}"


def state(card: Card) -> str:
    verb = {"drained": "is drained", "lost": "does not answer", "foreign": "is in use by others"}[card.state]
    return f"{verb}: {card.why}" if card.why else verb


def held_by(holders: Sequence[Held]) -> str:
    going = [who(lease.request.who) for lease in holders if lease.freeing]
    staying = [who(lease.request.who) for lease in holders if not lease.freeing]
    parts = [f"held by {listed(staying)}" if staying else "", f"not yet free of {listed(going)}" if going else ""]
    return ", ".join(part for part in parts if part)


def _card(card: Card) -> str:
    return f"{card.model or 'a GPU'} with {size(card.memory)}" if card.memory else card.model or "a GPU"
