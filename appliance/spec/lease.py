"""On what terms GPUs are asked for: whose they are in the ledger, and what stands before what. Ours in every kind.

What is absent says nothing: the machine type decides then, or the setting.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from appliance.spec.fields import Fields, read_number
from appliance.spec.problems import quoted

OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}", re.ASCII)
OWNER_RULE = "1 to 63 of the letters a-z and A-Z, digits and `._@+-`, such as anna or anna@example.org"
LEAST_PRIORITY, MOST_PRIORITY = -100, 100

_HINT = "remove it: Gradient gives each its own machine"


class Terms(NamedTuple):
    owner: str = ""
    """Empty: nobody is named."""
    priority: int | None = None
    preemptible: bool | None = None

    def over(self, defaults: Terms) -> Terms:
        """These, and where they say nothing the others."""
        return Terms(
            self.owner or defaults.owner,
            defaults.priority if self.priority is None else self.priority,
            defaults.preemptible if self.preemptible is None else self.preemptible,
        )


def read_terms(fields: Fields) -> Terms:
    """`owner`, `priority` and `preemptible` of this map."""
    for key in ("owner", "priority", "preemptible"):
        fields.extension(key, _HINT)
    return Terms(_owner(fields), _priority(fields), _preemptible(fields))


def _owner(fields: Fields) -> str:
    before = len(fields.problems.errors)
    owner = fields.text("owner")
    if owner and len(fields.problems.errors) == before and not OWNER.fullmatch(owner):
        fields.error("owner", f"{quoted(owner)} cannot be an owner's name", f"use {OWNER_RULE}")
        return ""
    return owner


def _priority(fields: Fields) -> int | None:
    node = fields.node("priority")
    if node is None:
        return None
    least, most = LEAST_PRIORITY, MOST_PRIORITY
    path = fields.at("priority")
    return int(read_number(node, path, fields.problems, default=0, least=least, most=most, whole=True))


def _preemptible(fields: Fields) -> bool | None:
    node = fields.node("preemptible")
    return None if node is None else fields.flag("preemptible")
