"""What the CLI and the TUI say of a deployment."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.client import words

NOW = 10_000.0


def rollout(phase: str, **more: Any) -> dict[str, Any]:
    return {
        "generation": 5, "phase": phase, "message": "", "cause": "applied", "copies": None, "since": NOW - 30,
        "serving": 4, **more,
    }  # fmt: skip


def item(message: str = "", problem: str = "", **status: Any) -> dict[str, Any]:
    return {"message": message, "problem": problem, "url": "http://x/", "status": status}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (rollout("Rolling"), "generation 5 rolls out for 30s; generation 4 serves"),
        (rollout("Preparing", serving=None), "generation 5 is prepared for 30s"),
        (rollout("Serving", serving=5), "generation 5 serves for 30s"),
        (
            rollout("Serving", serving=5, cause="rolled back", copies=3),
            "generation 5 (rolled back to 3) serves for 30s",
        ),
        (
            rollout("Undone", message="it crashed\nlast line"),
            "generation 5 was undone 30s ago; generation 4 serves: it crashed",
        ),
        (rollout("Failed", serving=None, message="no image"), "generation 5 is failed: no image"),
    ],
)
def test_a_rollout_is_told(found: dict[str, Any], told: str) -> None:
    assert words.rollout({"rollout": found}, NOW) == told


def test_a_reason_that_is_told_already_is_not_told_twice() -> None:
    found = rollout("Undone", message="it crashed\nlast line")
    said = "generation 5 was undone: it crashed; generation 4 serves; correct it and apply again"
    assert words.rollout({"rollout": found}, NOW, said=said) == "generation 5 was undone 30s ago; generation 4 serves"
    told = words.rollout({"rollout": found}, NOW, said="2 of 2 replicas ready")
    assert told.endswith("generation 4 serves: it crashed")
    failed = rollout("Failed", serving=None, message="no image")
    assert words.rollout({"rollout": failed}, NOW, said="Failed: no image") == "generation 5 is failed"


@pytest.mark.parametrize(
    ("left", "told"),
    [(39.4, "at most 40 s more"), (0.0, "it ends now"), (-3.0, "it ends now"), (None, "")],
)
def test_of_a_replica_that_leaves_is_told_for_how_long_at_most(left: float | None, told: str) -> None:
    row = {"state": "leaving", "leaving_s": left, "message": "", "in_flight": 1}
    assert words.replica(row, NOW) == told
    assert words.replica({**row, "message": "GET /: 500"}, NOW) == "; ".join(
        part for part in (told, "GET /: 500") if part
    )


@pytest.mark.parametrize(
    ("phase", "ready", "told", "doubts"),
    [
        ("Superseded", NOW, "why", ""),
        ("Superseded", None, "never served; why", "generation 5 never served"),
        ("Undone", None, "why", "generation 5 was undone: why"),
        ("Undone", NOW, "why", "generation 5 was undone: why"),
        ("Serving", NOW, "why", ""),
    ],
)
def test_of_a_revision_is_told_whether_it_is_a_way_back(phase: str, ready: float, told: str, doubts: str) -> None:
    row = {"generation": 5, "phase": phase, "ready": ready, "message": "why\nlast words"}
    assert (words.revision(row), words.doubts(row)) == (told, doubts)


def test_of_nothing_nothing_is_told() -> None:
    """A daemon that looks for the first time has written no status yet."""
    assert words.rollout({}, NOW) == words.asleep({}, NOW) == words.scale({}, NOW) == words.held({}) == ""
    assert words.countdown({}, NOW) == words.rollout({"rollout": None}, NOW) == ""
    assert words.detail(item(), NOW) == "http://x/"


def test_a_list_tells_the_most_urgent_first() -> None:
    broken = {"id": "5-0", "restart_at": NOW + 12.4}
    scale = {"replicas": 3, "reason": "cpu 90 % of 50", "since": NOW - 90, "last_request": NOW}
    status: dict[str, Any] = {
        "rollout": rollout("Rolling"),
        "held": 14,
        "replicas": [broken, {"id": "4-0"}],
        "scale": scale,
    }
    assert words.detail(item("1 of 2 ready\nand more", **status), NOW) == (
        "14 requests wait; generation 5 rolls out for 30s; generation 4 serves; 1 of 2 ready; next restart in 12 s; "
        "the load asks for 3 replicas for 90s: cpu 90 % of 50"
    )
    assert words.detail(item("1 of 2 ready", "line 3: no", **status), NOW) == "line 3: no"
    settled: dict[str, Any] = {
        **status,
        "rollout": rollout("Serving", serving=5),
        "held": 1,
        "replicas": [],
        "scale": None,
    }
    assert words.detail(item("2 of 2 ready", **settled), NOW) == "1 request waits; 2 of 2 ready"


def test_one_that_sleeps_says_that_only() -> None:
    scale = {"replicas": 0, "reason": "no request for 900 s", "since": NOW - 90, "last_request": NOW - 990}
    status: dict[str, Any] = {
        "rollout": rollout("Serving", serving=5),
        "asleep": True,
        "held": 0,
        "replicas": [],
        "scale": scale,
    }
    assert words.detail(item("no replica runs", **status), NOW) == "asleep for 90s: the next request wakes it"


def test_a_message_that_stands_still_counts_down_all_the_same() -> None:
    said = item("0 of 1 ready; replica 5-0: exit code 1; restart 4 in 64 s\nlast words")
    said["status"] = {"replicas": [{"id": "5-0", "restart_at": NOW + 9}]}
    assert words.message(said, NOW) == (
        "0 of 1 ready; replica 5-0: exit code 1; restart 4; next restart in 9 s\nlast words"
    )


def test_a_countdown_goes_no_further_than_now() -> None:
    assert words.replica({"message": "exit code 1", "restart_at": NOW - 5}, NOW) == "restart in 0 s; exit code 1"
    assert words.replica({"message": "exit code 1"}, NOW) == "exit code 1"
    assert words.replica({}, NOW) == ""


def test_traffic_is_told_in_a_line() -> None:
    none = {"since": 0.0, "until": 300.0, "requests": 0, "errors": 0, "longest_held_s": 0.0}
    assert words.traffic(none) == "none in 5m"
    some = {**none, "requests": 900, "errors": 1, "p50_s": 0.0204, "p95_s": None, "p99_s": 1.5, "longest_held_s": 2.0}
    assert words.traffic(some) == (
        "3 a second over 5m, p50 20.4 ms, p99 1.5 s, 1 error, longest wait for a replica 2 s"
    )
