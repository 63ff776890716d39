"""Executing a notebook's file from a terminal, with a stand-in for the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.cli import notebook_run, render
from appliance.cli.main import main
from appliance.errors import DaemonDown, UsageError

ROW = {
    "notebook": "nb", "number": 3, "phase": "Preparing", "message": "", "file": "a.ipynb", "output": "out.ipynb",
    "parameters": {}, "kernel": "", "author": "me", "generation": 1, "created": 100.0, "started": 101.0,
    "finished": None, "exit_code": None, "logged": "was", "part": "run-3",
}  # fmt: skip


class FakeClient:
    """`script` is what each look meets: a phase, an error, or Ctrl-C. The last one stays."""

    def __init__(self) -> None:
        self.script: list[Any] = ["Running", "Succeeded"]
        self.code: int | None = 0
        self.lines = ["one", "two\x1b[2J"]
        self.calls: list[tuple[Any, ...]] = []

    def execute_file(self, notebook: str, file: str, parameters: Any, *, kernel: str, output: str, gpu: bool) -> Any:
        self.calls.append((notebook, file, parameters, kernel, output, gpu))
        return ROW

    def execution(self, notebook: str, number: int | None) -> Any:
        self.calls.append(("look", number))
        found = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if not isinstance(found, str):
            raise found
        message = "pulling 30 %" if found == "Preparing" else "cell 2: 1/0" if found == "Failed" else ""
        return {**ROW, "phase": found, "message": message, "exit_code": self.code, "finished": 105.0}

    def executions(self, notebook: str, *, limit: int) -> Any:
        return [{**ROW, "phase": "Failed", "message": "cell 2: 1/0\nmore", "finished": 105.0}]

    def cancel_execution(self, notebook: str, number: int | None) -> Any:
        self.calls.append(("cancel", number))
        return {**ROW, "phase": "Stopping"}

    def logs(self, **query: Any) -> Any:
        assert (query["kind"], query["name"], query["part"], query["since"]) == ("notebook", "was", "run-3", 100.0)
        found = [{"seq": seq, "line": text} for seq, text in enumerate(self.lines, start=10)]
        return [line for line in found if line["seq"] > query["after"]]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    made = FakeClient()
    monkeypatch.setattr(render, "client", lambda: made)
    monkeypatch.setattr(notebook_run, "POLL_S", 0.0)
    return made


def test_lines_come_as_they_are_printed_and_once(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.script = ["Preparing", "Running", "Succeeded"]
    words = ["-p", "x=3", "-p", "name=a=b", "--kernel", "ir", "--out", "out.ipynb", "--no-gpu"]
    assert main(["notebook", "run", "nb", "a.ipynb", *words]) == 0
    assert client.calls[0] == ("nb", "a.ipynb", {"x": 3, "name": "a=b"}, "ir", "out.ipynb", False)
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "one"
    assert said.out.count("two") == 1
    assert "\x1b" not in said.out
    assert "pulling 30 %" in said.err
    assert "run 3 of nb: Succeeded" in said.err


@pytest.mark.parametrize(("phase", "code", "expected"), [("Failed", 1, 1), ("Failed", 137, 137), ("Canceled", None, 1)])
def test_the_exit_code_is_the_runs(client: FakeClient, phase: str, code: int | None, expected: int) -> None:
    client.script, client.code = [phase], code
    assert main(["notebook", "run", "nb", "a.ipynb"]) == expected
    assert main(["notebook", "run-logs", "nb", "3", "-f"]) == expected
    assert main(["notebook", "run-logs", "nb"]) == 0


def test_ctrl_c_cancels_and_waits_for_the_end(client: FakeClient) -> None:
    client.script = ["Running", KeyboardInterrupt(), "Stopping", "Canceled"]
    assert main(["notebook", "run", "nb", "a.ipynb"]) == 130
    assert ("cancel", 3) in client.calls
    client.script = ["Running", KeyboardInterrupt(), "Succeeded"]
    assert main(["notebook", "run", "nb", "a.ipynb"]) == 0


def test_detached_it_goes_on(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notebook", "run", "nb", "a.ipynb", "-d"]) == 0
    assert capsys.readouterr().out == "3\n"
    assert len(client.calls) == 1


def test_a_daemon_that_restarts_is_waited_for(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.script = ["Running", DaemonDown("no answer"), "Succeeded"]
    assert main(["notebook", "run", "nb", "a.ipynb"]) == 0
    monkeypatch.setattr(notebook_run, "PATIENCE_S", -1.0)
    client.script = ["Running", DaemonDown("no answer")]
    assert main(["notebook", "run", "nb", "a.ipynb"]) == DaemonDown.exit_code


def test_listed_and_canceled(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notebook", "runs", "nb"]) == 0
    assert "out.ipynb" in capsys.readouterr().out
    assert main(["notebook", "run-cancel", "nb"]) == 0
    assert client.calls == [("cancel", None)]


def test_parameters(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"deep": [1.5]}')
    given = ["a=3", "b=true", "c=text", 'd="3"', "e=[1, 2]", "f=", "g=NaN", "h=null", f"i=@{file}", "j=a=@b"]
    assert notebook_run.parameters_of(given) == {
        "a": 3, "b": True, "c": "text", "d": "3", "e": [1, 2], "f": "", "g": "NaN", "h": None, "i": {"deep": [1.5]},
        "j": "a=@b",
    }  # fmt: skip
    file.write_text("{")
    for bad in (f"x=@{file}", "x=@/nowhere", "x"):
        with pytest.raises(UsageError):
            notebook_run.parameters_of([bad])
