"""What is shown of a deployment."""

from __future__ import annotations

from typing import Literal

from appliance.deployments import status
from appliance.deployments.facts import Plan, Replica, Revision
from appliance.engine.types import Container

WANTED = Revision(8, "d", 2)


def replica(
    index: int, restarts: int, state: Literal["created", "running", "ended"], *, generation: int = 8, digest: str = "d"
) -> Replica:
    return Replica(f"{digest}-{generation}-{index}-{restarts}", generation, index, restarts, digest, state)


def shown(*replicas: Replica) -> list[tuple[str, int]]:
    seen = {one: Container(one.id, one.id, "i", "i", {}, "running") for one in replicas}
    found = status.describe_all({}, Plan("Starting", ""), WANTED, seen, now=0.0)
    return [(row["id"], row["restarts"]) for row in found["replicas"]]


def test_between_two_restarts_a_replica_is_shown_once() -> None:
    ended, again = replica(0, 2, "ended"), replica(0, 3, "created")
    assert shown(ended, again) == [("8-0", 3)]
    assert shown(ended) == [("8-0", 2)], "until the next one is there"
    earlier = replica(0, 2, "ended", generation=7)
    assert shown(earlier, again) == [("8-0", 3)], "one place, applied again meanwhile"


def test_who_leaves_is_shown_with_the_time_it_has() -> None:
    stays, leaves = replica(0, 0, "running"), replica(0, 0, "running", generation=7, digest="old")
    seen = {stays: Container(stays.id, stays.id, "i", "i", {}, "running")}
    found = status.describe_all({}, Plan("Ready", ""), WANTED, seen, {leaves: 130.0}, now=100.0)["replicas"]
    assert [(row["id"], row["state"], row.get("leaves_by"), row["ready"]) for row in found] == [
        ("8-0", "starting", None, False),
        ("7-0", "leaving", 130.0, False),
    ]


def test_those_of_other_places_and_revisions_are_shown_beside_it() -> None:
    other, old = replica(1, 0, "ended"), replica(0, 0, "running", generation=7, digest="old")
    assert shown(replica(0, 3, "created"), other, old) == [("7-0", 0), ("8-0", 3), ("8-1", 0)]
    assert shown(replica(0, 2, "running"), replica(0, 3, "created")) == [("8-0", 2), ("8-0", 3)], "both are there"
