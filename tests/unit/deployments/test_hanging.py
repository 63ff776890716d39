"""Which replicas take requests and end none."""

from __future__ import annotations

from appliance.deployments import hanging
from appliance.deployments.hanging import SILENT_S, Silence
from appliance.router.meters import Meter, ServerMeter


def watch(*looks: tuple[int, int] | None, every_s: float = 5) -> list[str]:
    """What is told of one target after looks at its requests (in flight, begun in all)."""
    silences: dict[str, Silence] = {}
    meter, now = Meter(), 0.0
    for found in looks:
        now += every_s
        servers = {} if found is None else {"one": ServerMeter(found[0], found[1], 0)}
        meter = Meter(0, servers)
        silences = hanging.look(silences, meter, now)
    return list(hanging.told(silences, meter, now).values())


def test_what_takes_more_and_more_and_ends_none_is_told() -> None:
    hangs = [(number, 10 + number) for number in range(2, 10)]
    (told,) = watch(*hangs)
    assert "9 requests are under way, and none has ended for 30 s" in told
    assert "healthChecks.liveness" in told
    assert watch(*hangs[:-2]) == [], "not for so long yet"


def test_what_ends_some_is_well() -> None:
    assert watch(*((9, 20 + number) for number in range(20))) == [], "as many begin as end"
    assert watch(*((number, 10 + number) for number in range(2, 10)), (9, 20)) == []


def test_long_answers_to_which_nobody_adds_are_no_sign() -> None:
    assert watch(*[(3, 10)] * 20) == []
    assert watch(*[(1, 10)] * 20) == []


def test_what_was_not_seen_begins_anew() -> None:
    hangs = [(number, 10 + number) for number in range(2, 10)]
    assert watch(*hangs, None, (12, 22)) == []
    assert hanging.look({"one": Silence(0.0, 1, 2)}, None, SILENT_S) == {}
