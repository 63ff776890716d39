"""What the documents of GPUs tell, in words: the CLI and the TUI say it alike. Pure; whoever shows it cleans it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def state(card: Document) -> str:
    """`free`, `held`, `freeing`, or what is wrong with it and why."""
    if card["state"] != "ok":
        return f"{card['state']}: {card['why']}" if card["why"] else str(card["state"])
    if not card["holders"]:
        return "free"
    return "freeing" if all(holder["freeing"] for holder in card["holders"]) else "held"


def holders(card: Document) -> str:
    """Who has it, and how much of the time each one's kernels run."""
    return ", ".join(_holder(one) for one in card["holders"])


def name(row: Document) -> str:
    """Of who has a GPU or waits for one: `notebook/lab`, `run/train.3/fit`."""
    return "/".join(filter(None, (row["kind"], row["name"], row["part"])))


def number(value: float | None, unit: str) -> str:
    """`-` for what the driver does not tell."""
    return "-" if value is None else f"{value:.0f}{unit}"


def power(gpu: Document) -> str:
    limit = f" of {gpu['limit_w']:.0f}" if gpu["limit_w"] is not None else ""
    return f"{number(gpu['power_w'], ' W')}{limit}"


def whole(gpu: Document) -> Document:
    """The one card of a GPU that is not split; of one that is, its instances together."""
    if not gpu["split"] and gpu["cards"]:
        return dict(gpu["cards"][0])
    state = "lost" if gpu["lost"] else "ok"
    return {"state": state, "why": gpu["lost"], "holders": [one for card in gpu["cards"] for one in card["holders"]]}


def _holder(one: Document) -> str:
    used = "" if one["used"] is None else f" {one['used']:.0f}%"
    return f"{name(one)}{used}"
