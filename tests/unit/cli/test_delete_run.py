"""`appliance delete run WORKFLOW.NUMBER`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.cli import render
from appliance.cli.main import main
from appliance.client import Client
from appliance.settings import load as load_settings
from appliance.state import runs
from tests.support.daemon import eventually
from tests.unit.cli.served_runs import ServedRuns
from tests.unit.workflows.fakes import Inside, flow, script


def make(inside: Inside) -> int:
    inside.path("/outputs/tree/file").write_text("made")
    return 0


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedRuns]:
    """With the run flow.1, of which a volume is kept."""
    home = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))  # a socket's path must be short
    made = ServedRuns(load_settings({}, home=home))
    made.bench.engine.body = {"make": make, "read": lambda inside: 3}
    monkeypatch.setenv("APPLIANCE_HOME", str(home))
    made.do(failed(made))  # the bench works on it beside this
    eventually(
        lambda: made.call(lambda: runs.newest(made.bench.db.read)[0].finished is not None), within_s=60, what="its end"
    )
    yield made
    made.stop()
    shutil.rmtree(home, ignore_errors=True)


async def failed(served: ServedRuns) -> None:
    served.bench.submit(flow(make=script(outputs={"tree": {"type": "volume"}}), read=script("make")))


@pytest.fixture(autouse=True)
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process ends after each command, and its connections with it."""
    made: list[Client] = []
    make_client = render.client

    def client() -> Client:
        made.append(make_client())
        return made[-1]

    monkeypatch.setattr(render, "client", client)
    yield
    for each in made:
        each.close()


def there(served: ServedRuns) -> list[int]:
    return served.call(lambda: [run.number for run in runs.newest(served.bench.db.read)])


def test_the_name_is_repeated_and_the_space_is_told(served: ServedRuns, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["delete", "run", "flow.1"]) != 0
    said = capsys.readouterr()
    assert "destroys what is kept of it" in said.err
    assert "--confirm flow.1" in said.err
    assert there(served) == [1]
    assert main(["delete", "run", "flow.1", "--confirm", "flow.1"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("run flow.1 is gone, and ")
    assert there(served) == []
    assert served.call(lambda: served.bench.store.volumes("runs")) == []


@pytest.mark.parametrize(("typed", "left"), [("flow.1", []), ("flow", [1]), ("", [1])])
def test_at_a_terminal_the_name_is_asked_for(
    served: ServedRuns, monkeypatch: pytest.MonkeyPatch, typed: str, left: list[int]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: typed)
    assert (main(["delete", "run", "flow.1"]) == 0) == (not left)
    assert there(served) == left
