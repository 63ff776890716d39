from __future__ import annotations

from appliance.router.meters import Meter, ServerMeter, read, with_former
from appliance.router.table import Target

STAT = """# pxname,svname,scur,stot,econ,eresp,hrsp_5xx,
slot-0,a,2,10,1,2,3,
slot-0,b,0,5,,,,
slot-0,BACKEND,7,20,1,2,3,

# pxname,svname,scur,stot,econ,eresp,hrsp_5xx,
slot-3,BACKEND,4,4,0,0,0,
slot-9,BACKEND,1,1,0,0,0,
daemon,BACKEND,1,1,0,0,0,
"""


def test_who_waits_is_who_is_with_no_server() -> None:
    assert read(STAT, {0: "/deployments/x", 3: "/deployments/y", 4: "/deployments/z"}) == {
        "/deployments/x": Meter(5, {"a": ServerMeter(2, 10, 6), "b": ServerMeter(0, 5, 0)}),
        "/deployments/y": Meter(4, {}),
        "/deployments/z": Meter(0, {}),
    }


def test_figures_that_were_counted_apart_never_go_below_nobody() -> None:
    text = STAT.replace("slot-0,BACKEND,7", "slot-0,BACKEND,1")
    assert read(text, {0: "/deployments/x"})["/deployments/x"].held == 0


def test_what_a_replaced_haproxy_still_does_is_in_flight() -> None:
    """A stream that goes on over a reload keeps its deployment awake."""
    meter = Meter(1, {"a": ServerMeter(2, 10, 6), "old": ServerMeter(1, 1, 0)})
    found = with_former(meter, [Target("a", 4001), Target("b", 4002), Target("c", 4003)], {4001: 3, 4002: 1, 9: 5})
    servers = {"a": ServerMeter(5, 10, 6), "b": ServerMeter(1, 0, 0), "old": ServerMeter(1, 1, 0)}
    assert found == Meter(1, servers)


def test_nothing_is_said_of_nobody() -> None:
    assert read("", {}) == {}
    assert read("Can't find proxy with name slot-7", {7: "/deployments/x"}) == {"/deployments/x": Meter()}
