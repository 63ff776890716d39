"""What keeps a session: each thing alone, and what Jupyter may answer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from appliance.engine.inside import Inside
from appliance.notebooks.activity import Scene, compare
from appliance.notebooks.asking import MOST_NAME, Kernel, Silent, Told, read
from appliance.notebooks.idle import Look

INIT = Inside(pid=10, parent=1, session=10, terminal=False, cpu_s=0.0, began=1, name="docker-init")
SERVER = Inside(pid=11, parent=10, session=10, terminal=False, cpu_s=9.0, began=2, name="jupyter-lab")
KERNEL = Inside(pid=12, parent=11, session=12, terminal=False, cpu_s=5.0, began=3, name="python3")
SHELL = Inside(pid=13, parent=11, session=13, terminal=True, cpu_s=0.1, began=4, name="bash", argv=("bash", "-l"))
JOB = Inside(pid=14, parent=13, session=13, terminal=True, cpu_s=0.1, began=5, name="python", argv=("python", "t.py"))
EXEC = Inside(pid=15, parent=2, session=15, terminal=False, cpu_s=0.0, began=6, name="wget")
OPEN = Kernel(name="a.ipynb", busy=False, last="2026-01-01T00:00:00Z", connections=1)


def processes(*more: Inside) -> Mapping[int, Inside]:
    return {one.pid: one for one in (INIT, SERVER, KERNEL, *more)}


REST = Scene(
    at=100.0, jupyter=Told({"k": OPEN}, {"1": "x"}), processes=processes(SHELL), first=10, cpu_s=50.0, network=1_000_000
)


def later(scene: Scene = REST, **changes: Any) -> Scene:
    """The same ten seconds later, with the processor time of a session at rest."""
    return replace(scene, **{"at": scene.at + 10.0, "cpu_s": 50.3, **changes})


def used(one: Inside, cpu_s: float) -> Inside:
    return replace(one, cpu_s=one.cpu_s + cpu_s)


def kernel(**changes: Any) -> Told:
    return Told({"k": replace(OPEN, **changes)}, {"1": "x"})


def test_a_page_is_open_and_nothing_goes_on() -> None:
    assert compare(REST, later()) == Look()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"jupyter": kernel(busy=True)}, "the kernel of a.ipynb computes"),
        ({"jupyter": kernel(last="2026-01-01T00:00:05Z")}, "the kernel of a.ipynb was used"),
        ({"jupyter": kernel(connections=2)}, "a page was opened"),
        ({"jupyter": Told({"k": OPEN, "l": OPEN}, {"1": "x"})}, "the kernel of a.ipynb was used"),
        ({"jupyter": Told({"k": OPEN}, {"1": "y"})}, "a terminal was used"),
        ({"jupyter": "no answer within 5 s"}, "Jupyter does not say what it does: no answer within 5 s"),
        ({"processes": processes(SHELL, JOB)}, "`python` runs in a terminal"),
        ({"processes": None}, "which programs it runs cannot be seen"),
        ({"processes": processes(used(SHELL, 0.0), EXEC), "before": EXEC}, "`wget` runs, begun from outside"),
        ({"processes": {**processes(SHELL), 12: used(KERNEL, 0.6)}}, "`python3` uses 6 % of a processor"),
        ({"cpu_s": 53.0}, "it uses 30 % of a processor"),
        ({"cpu_s": 90.0}, "it uses 4.0 processors"),
        ({"cpu_s": None}, "how busy its processors are cannot be seen"),
        ({"gpus": True}, "its GPUs work"),
        ({"gpus": None}, "whether its GPUs work cannot be seen"),
        ({"saved": 7.0}, "a file was saved"),
        ({"typed": 7}, "a terminal of the appliance was used"),
        ({"network": 1_000_000 + 10 * 30_000}, "30 kB/s go through its network"),
        ({"jupyter": replace(kernel(), asked="t1")}, "its Jupyter was asked for something"),
        ({"asked": 7.0}, "its user asked for it"),
        ({"elsewhere": "a.ipynb is run"}, "a.ipynb is run"),
    ],
)
def test_each_thing_alone_keeps_it(changes: dict[str, Any], why: str) -> None:
    before = replace(REST, processes=processes(SHELL, changes.pop("before"))) if "before" in changes else REST
    blind = "cannot be seen" in why or "does not say" in why
    assert compare(before, later(**changes)) == Look(busy=why, blind=blind)
    assert compare(before, later()) == Look(), "and nothing else in this scene does"


@pytest.mark.parametrize("network", [None, 0, 1_000_000 + 10 * 5_000])
def test_what_an_open_page_asks_for_by_itself_and_an_unknown_network_keep_nothing(network: int | None) -> None:
    assert compare(REST, later(network=network)) == Look()
    assert compare(replace(REST, network=None), later(network=network)) == Look()
    assert compare(REST, later(at=100.5, cpu_s=50.01, network=network)) == Look(), "a burst between two quick looks"


def test_nothing_is_known_at_the_first_look() -> None:
    assert compare(None, REST) == Look(busy="nothing is known of the time before this look", blind=True)


def test_what_is_seen_is_said_before_what_is_not() -> None:
    seen = compare(REST, later(jupyter="no answer", processes=processes(SHELL, JOB)))
    assert seen == Look(busy="`python` runs in a terminal")


def test_an_images_health_check_keeps_nothing_but_nothing_ends_during_it() -> None:
    checks = replace(EXEC, name="healthcheck")
    assert compare(REST, later(processes=processes(SHELL, checks))) == Look(doubt=True)
    earlier = replace(REST, processes=processes(SHELL, replace(checks, began=1)))
    assert compare(earlier, later(processes=processes(SHELL, checks))) == Look(doubt=True), "another one, same number"


@pytest.mark.parametrize(
    ("argv", "rest"),
    [
        (("bash",), True),
        (("-bash",), True),
        (("/bin/bash", "--login", "-i"), True),
        (("bash", "train.sh"), False),
        (("bash", "-c", "train"), False),
        (("sh", "-lc", "train"), False),
        (("bash", "--init-file", "/x/shellIntegration-bash.sh"), True),
        (("bash", "--rcfile", "/x/rc", "-i"), True),
        (("bash", "-O", "extglob", "+o", "posix"), True),
        (("bash", "--rcfile", "/x/rc", "train.sh"), False),
        (("bash", "-o", "pipefail", "train.sh"), False),
        (("bash", "-o"), True),
    ],
)
def test_a_shell_is_at_rest_unless_it_was_given_something_to_do(argv: tuple[str, ...], rest: bool) -> None:
    assert replace(SHELL, argv=argv).at_rest is rest


def test_who_holds_a_shell_is_at_rest_and_an_editor_is_not() -> None:
    assert replace(SHELL, name="tmux: client", argv=("tmux", "attach")).at_rest
    assert replace(SHELL, name="su", argv=("su", "-", "me")).at_rest
    assert replace(JOB, name="gitstatusd-linu", argv=("/x/gitstatusd-linux-x86_64", "-G", "v1")).at_rest
    assert not replace(SHELL, name="vim", argv=("vim",)).at_rest


KERNELS = [{"id": "k", "name": "python3", "execution_state": "idle", "last_activity": "t", "connections": 2}]


def test_what_jupyter_says() -> None:
    sessions = [{"path": "dir/ä b.ipynb", "kernel": {"id": "k"}}, {"path": "gone", "kernel": None}]
    told = read(KERNELS, sessions, [{"name": "1", "last_activity": "t"}])
    assert told == Told({"k": Kernel("dir/ä b.ipynb", False, "t", 2)}, {"1": "t"})
    assert told.connections == 2
    assert read(KERNELS, [], []).kernels["k"].name == "python3"


def test_hostile_names_are_shown_bounded_and_plain() -> None:
    told = read(KERNELS, [{"path": "x" * 10_000 + "\x1b[31m.ipynb", "kernel": {"id": "k"}}], [])
    assert len(told.kernels["k"].name) == MOST_NAME
    assert "\x1b" not in told.kernels["k"].name


@pytest.mark.parametrize(
    "answer",
    [
        [1],
        [{}],
        ["text"],
        [None],
        [{**KERNELS[0], "connections": "many"}],
        [{**KERNELS[0], "connections": float("inf")}],
        [{"id": "k"}],
    ],
)
def test_what_no_jupyter_says_is_silence(answer: list[Any]) -> None:
    with pytest.raises(Silent):
        read(answer, [], [])
    with suppress(Silent):  # less is asked of these; no other error comes of them
        assert read([], answer, []).kernels == {}
    with suppress(Silent):
        assert read([], [], answer).kernels == {}
