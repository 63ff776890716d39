"""What is done next for an execution, and what may be asked for."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import UsageError
from appliance.notebooks.executing.asked import LONGEST_PATH, Asked, beside, checked, inside
from appliance.notebooks.executing.plan import GONE, Facts, Step, decide
from appliance.state.executions import FINAL

NOW = 1000.0


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, Step("Preparing", verb="prepare")),
        ({"image": "busy", "image_message": "30 %"}, Step("Preparing", "30 %", wake=NOW + 1)),
        ({"image": "failed", "image_message": "no such image"}, Step("Failed", "no such image", "end")),
        ({"image": "ready"}, Step("Starting", verb="begin")),
        ({"image": "ready", "waits": "behind run a.1"}, Step("Preparing", "behind run a.1", wake=NOW + 30)),
        ({"phase": "Starting", "image": "ready", "waits": "refused"}, Step("Preparing", "refused", wake=NOW + 30)),
        ({"image": "busy", "image_message": "30 %", "waits": "its turn"}, Step("Preparing", "30 %", wake=NOW + 1)),
        ({"image": "ready", "waits": "its turn", "canceled": "no"}, Step("Canceled", "no, before it began", "end")),
        ({"image": "ready", "blocked": "no dataset"}, Step("Failed", "no dataset", "end")),
        ({"image": "ready", "canceled": "canceled"}, Step("Canceled", "canceled, before it began", "end")),
        # a kill between what was written down and the container: it is made
        ({"phase": "Starting", "image": "ready"}, Step("Starting", verb="begin")),
        ({"phase": "Starting", "container": "created"}, Step("Starting", verb="start")),
        (
            {"phase": "Starting", "container": "created", "canceled": "x"},
            Step("Canceled", "x, before it began", "end"),
        ),
        ({"phase": "Starting", "container": "running"}, Step("Running")),
        ({"phase": "Running", "container": "running", "canceled": "x"}, Step("Stopping", "x", "stop")),
        ({"phase": "Running", "image": "ready"}, Step("Failed", GONE, "end")),
        ({"phase": "Running", "container": "ended", "exit_code": 0}, Step("Running", verb="read")),
        (
            {"phase": "Running", "container": "ended", "exit_code": 0, "words": "3 cells"},
            Step("Succeeded", "3 cells", "end"),
        ),
        ({"phase": "Running", "container": "ended", "exit_code": 1, "words": "1/0"}, Step("Failed", "1/0", "end")),
        (
            {"phase": "Stopping", "container": "ended", "exit_code": 143, "words": "SIGTERM", "canceled": "by me"},
            Step("Canceled", "by me", "end"),
        ),
        (
            {"phase": "Stopping", "container": "ended", "exit_code": 137, "words": "killed", "canceled": "by me"},
            Step("Canceled", "by me: killed", "end"),
        ),
        # it was done before it heard of the cancel
        (
            {"phase": "Stopping", "container": "ended", "exit_code": 0, "words": "3 cells", "canceled": "by me"},
            Step("Succeeded", "3 cells", "end"),
        ),
        ({"phase": "Failed", "container": "ended"}, Step("Failed", verb="clear")),
        ({"phase": "Failed"}, Step("Failed", verb="clear")),
        ({"phase": "Failed", "cleared": True}, Step("Failed")),
    ],
)  # fmt: skip
def test_the_next_step(facts: dict[str, Any], expected: Step) -> None:
    assert decide(Facts(**{"phase": "Preparing", **facts}), NOW) == expected


FACTS = st.builds(
    Facts,
    phase=st.sampled_from(["Preparing", "Starting", "Running", "Stopping", *sorted(FINAL)]),
    canceled=st.sampled_from(["", "canceled"]),
    container=st.sampled_from(["none", "created", "running", "ended"]),
    exit_code=st.sampled_from([None, 0, 1, 137, 143]),
    words=st.sampled_from([None, "words"]),
    image=st.sampled_from(["unknown", "busy", "ready", "failed"]),
    image_message=st.just("image"),
    blocked=st.sampled_from(["", "blocked"]),
    waits=st.sampled_from(["", "behind run a.1"]),
    cleared=st.booleans(),
)


@given(FACTS)
def test_laws(facts: Facts) -> None:
    step = decide(facts, NOW)
    if facts.phase in FINAL:
        assert step.phase == facts.phase, "what is over stays as it is"
        assert step.verb in (None, "clear")
    if facts.canceled:
        assert step.verb not in ("prepare", "begin", "start"), "what was canceled does not begin"
    if facts.container != "none" or facts.phase in ("Running", "Stopping"):
        assert step.verb != "begin", "no cell is executed twice"
    if facts.container != "created":
        assert step.verb != "start", "what has run once does not run again"
    if facts.waits:
        assert step.verb != "begin", "nothing begins without what it needs"
    if step.verb == "end":
        assert step.phase in FINAL
        assert step.message, "an end says why"
    if facts.container == "running" and facts.phase not in FINAL:
        assert step.verb in (None, "stop"), "what runs goes on, or is asked to end"


AT = time.mktime((2026, 11, 23, 16, 0, 5, 0, 0, -1))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.ipynb", "a.ipynb"),
        ("/notebooks/a.ipynb", "a.ipynb"),
        ("sub//./a b ü.ipynb", "sub/a b ü.ipynb"),
        ("-p.ipynb", "-p.ipynb"),
    ],
)
def test_a_path_in_the_workspace(path: str, expected: str) -> None:
    assert inside(path, "file") == expected


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/etc/a.ipynb", "../a.ipynb", "a/../../b.ipynb", "/notebooks/../a.ipynb", "a.py", ".ipynb"),
        *("sub/.ipynb", "a\0.ipynb", "a\n.ipynb", "\ud800.ipynb", f"{'a' * LONGEST_PATH}.ipynb"),
        "/notebooks//etc/x.ipynb",
    ],
)  # fmt: skip
def test_no_path_in_the_workspace(path: str) -> None:
    with pytest.raises(UsageError):
        inside(path, "file")


def test_the_copy_is_named_after_the_time_and_nobody_elses() -> None:
    first = beside("sub/a.ipynb", (), AT)
    assert first == "sub/a-executed-20261123-160005.ipynb"
    assert beside("sub/a.ipynb", (first,), AT) == "sub/a-executed-20261123-160005-2.ipynb"
    assert checked(Asked("a.ipynb", output="/notebooks/b.ipynb"), taken=(), now=AT).output == "b.ipynb"
    with pytest.raises(UsageError, match="another run"):
        checked(Asked("a.ipynb", output="b.ipynb"), taken=("b.ipynb",), now=AT)
    with pytest.raises(UsageError, match="Python variable"):
        checked(Asked("a.ipynb", {"for": 1}), taken=(), now=AT)


@given(st.text(), st.text())
def test_whatever_is_asked_for_stays_in_the_workspace(file: str, output: str) -> None:
    try:
        found = checked(Asked(file, output=output), taken=(), now=AT)
    except UsageError:
        return
    for path in (found.file, found.output):
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert path.endswith(".ipynb")
