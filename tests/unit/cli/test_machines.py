"""`appliance get machines`, and a wrong table of config.toml in `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.cli import render
from appliance.cli.main import main
from appliance.cli.system import CHECKS
from appliance.settings import load

ROW = {"name": "P5000", "source": "gradient", "also": [], "gives": "1 GPU", "free": 2, "warning": ""}
OWN = {
    "name": "small",
    "source": "config",
    "also": ["P4000", "GPU+"],
    "gives": "1g.10gb",
    "free": None,
    "warning": "w\x1b",
}


class FakeClient:
    def items(self, kind: str) -> list[Any]:
        assert kind == "machines"
        return [OWN, ROW]

    def get(self, kind: str, name: str) -> Any:
        return {**ROW, "name": name}


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "client", FakeClient)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "machines"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "SOURCE", "GIVES", "HERE", "FREE", "NOW", "NOTE"]
    assert lines[1].split()[:4] == ["small", "config", "1g.10gb", "-"]
    assert "also P4000, GPU+; w" in lines[1]
    assert "\x1b" not in lines[1]
    assert lines[2].split() == ["P5000", "gradient", "1", "GPU", "2"]
    assert "[machines.NAME]" in lines[4]


def test_one_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "machine", "A4000x2"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["NAME", "A4000x2"]


def test_doctor_tells_a_wrong_table(tmp_path: Path) -> None:
    look = dict(CHECKS)["machines"]
    assert look(load({}, home=tmp_path)) == (True, "Gradient's names, none of your own")
    (tmp_path / "config.toml").write_text("[machines.small]\ngpus = 1\n")
    assert look(load({}, home=tmp_path)) == (True, f"1 of your own in {tmp_path / 'config.toml'}")
    (tmp_path / "config.toml").write_text("[machines.small]\ngpu = 1\n")
    assert look(load({}, home=tmp_path)) == (False, "machines.small.gpu: unknown key; did you mean `gpus`?")
