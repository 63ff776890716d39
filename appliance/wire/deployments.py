"""A deployment's revisions, its traffic, and commands in its replicas.

Beside what its controller writes, `Item.status` of a deployment has `rollout` (Rollout), `scale` (Scale or null),
`asleep` (bool) and `held` (requests that wait now, or null); each of its `replicas` has `in_flight` (or null) and
`leaving_s`: the seconds that one whose `state` is `leaving` has at most for what it has under way; of others null.
Of one alone `missing` too: what its spec names and is not there, a sentence each with the next step; and `models`:
which ones it serves, and whether newer ones are registered.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class Revision(TypedDict):
    generation: int
    cause: str
    """`applied`, `restarted`, `scaled` or `rolled back`."""
    copies: int | None
    """The generation that a rollback brought back."""
    source: str
    phase: str
    """`Waiting`, `Preparing`, `Rolling`, `Swapping`, `Serving`, `Superseded`, `Undone` or `Failed`."""
    message: str
    words: str
    """The last lines of what failed; may be empty."""
    image: str
    """As its spec names it."""
    image_id: str
    """The engine's id of the image; empty before that is known."""
    models: list[str]
    """`NAME (ID) at PATH` each, as they were looked up."""
    created: float
    ready: float | None
    """When it was first ready as a whole."""
    ended: float | None
    """When it was superseded or undone."""
    serving: bool


class RevisionDiff(TypedDict):
    """From the older to the newer: `older` and `newer` are the generations as they were asked for."""

    older: int
    newer: int
    spec: list[str]
    """Lines that begin with ` `, `-` or `+`, or with `@@`; empty: the same spec."""
    made_of: list[str]
    """In words, what else their replicas are made of differs: the image, the models."""


class Rollout(TypedDict):
    """How far the newest revision is."""

    generation: int
    phase: str
    message: str
    cause: str
    copies: int | None
    since: float
    """Of the phase: when it was declared, could first start replicas, was ready or ended."""
    serving: int | None
    """The generation that takes traffic; None: none does."""
    undo_s: NotRequired[float | None]
    """Seconds until it is given up and the one before it goes on, unless it is ready by then; None: it is not."""


class Scale(TypedDict):
    """How many replicas the load asks for, and why."""

    replicas: int
    reason: str
    since: float
    last_request: float | None


class RevisionRequest(TypedDict):
    to: NotRequired[int]
    """The generation to go back to; default: the last that served before this one."""


class ScaleRequest(TypedDict):
    replicas: int


class ReplicaTraffic(TypedDict):
    id: str
    """As in `status.replicas`; else of one that is gone."""
    requests: int
    errors: int
    in_flight: int | None
    """Now; None: it is gone, or the front door does not tell."""


class TrafficStep(TypedDict):
    at: float
    requests: int
    errors: int


class Traffic(TypedDict):
    """Requests at the front door that ended between `since` and `until`. `errors`: 5xx, and answers that were cut."""

    since: float
    until: float
    requests: int
    errors: int
    p50_s: float | None
    """Half of the answers were whole within so long, held time included; None: there were none."""
    p95_s: float | None
    p99_s: float | None
    held: int | None
    """Requests that wait for a replica now; None: the front door does not tell."""
    longest_held_s: float
    replicas: list[ReplicaTraffic]
    steps: list[TrafficStep]
    """Oldest first, all of one length, the empty ones too."""


class ExecRequest(TypedDict):
    argv: list[str]
    replica: NotRequired[str]
    """As in `status.replicas`; default: the first one that is ready, else one that runs."""


class ExecOutput(TypedDict):
    """A line of the answer to an exec: what the command wrote."""

    stream: Literal["stdout", "stderr"]
    data: str
    """Base64 of the bytes."""


class ExecEnd(TypedDict):
    """The last line of the answer to an exec; without it the command was cut off."""

    exit_code: int
