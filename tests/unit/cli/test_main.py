"""The command's frame: help that is whole, exit codes, output that cannot move a cursor."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from appliance.cli import render
from appliance.cli.main import COMMANDS, main
from appliance.cli.since import since
from appliance.errors import UsageError
from appliance.spec.dump import read_mapping

README = Path(__file__).parents[3] / "README.md"


@pytest.mark.parametrize("noun", COMMANDS)
def test_every_command_can_be_configured(noun: str) -> None:
    module = importlib.import_module(f"appliance.cli.{COMMANDS[noun][0]}")
    getattr(module, f"configure_{noun.replace('-', '_')}")(argparse.ArgumentParser())


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {noun} " in shown for noun in COMMANDS)


def test_a_mistyped_command_is_a_usage_error_with_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["statsu"]) == 2
    assert "did you mean 'status'?" in capsys.readouterr().err


def test_no_daemon_has_its_own_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path))
    assert main(["get", "notebooks"]) == 5
    assert main(["get", "nonsense"]) == 2
    assert "next:" in capsys.readouterr().err


def test_config_tells_each_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path))
    monkeypatch.setenv("APPLIANCE_PORT", "7999")
    assert main(["config"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("port "))
    assert "7999" in line
    assert "APPLIANCE_PORT" in line


def test_a_table_shows_foreign_text_without_obeying_it(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("a", "b"), [("x\x1b[2J\n", "y")], empty="")
    assert "\x1b" not in capsys.readouterr().out


def test_an_empty_table_says_so_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("a",), [], empty="nothing yet")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "nothing yet\n")


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")])
def test_durations(seconds: float, shown: str) -> None:
    assert render.duration(seconds) == shown


def test_sizes() -> None:
    assert [render.size(count) for count in (0, 999, 1500, 2_000_000, None)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.0 MB",
        "-",
    ]


def test_since_takes_spans_and_times() -> None:
    assert since("") == 0
    assert since("1700000000") == 1_700_000_000
    with pytest.raises(UsageError):
        since("yesterday")


@pytest.mark.parametrize("noun", COMMANDS)
def test_the_readme_names_every_command(noun: str) -> None:
    assert f"appliance {noun}" in README.read_text()


def test_an_inputs_file_is_read_under_the_limits_of_a_spec(tmp_path: Path) -> None:
    path = tmp_path / "inputs.yaml"
    path.write_text("seed: {value: '7'}\n")
    assert read_mapping(path) == {"seed": {"value": "7"}}
    for text in ("[1]", "a: {" * 5000, "- x", "", "a: 1\na: 2\n", "--- {}\n--- {}\n"):
        path.write_text(text)
        with pytest.raises(UsageError):
            read_mapping(path)
