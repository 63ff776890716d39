"""`appliance registry`, against the real API."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.settings import load as load_settings
from appliance.vault.registries import Registries
from tests.unit.cli.served_runs import ServedRuns
from tests.unit.cli.test_workflow import Shown


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))  # a socket's path must be short
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def served(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedRuns]:
    shutil.rmtree(home, ignore_errors=True)
    made = ServedRuns(load_settings({}, home=home))
    monkeypatch.setenv("APPLIANCE_HOME", str(home))
    yield made
    made.stop()


class Cli(Shown):
    def add(self, password: str, *more: str, url: str = "https://ghcr.io") -> tuple[int, str, str]:
        sys.stdin = io.StringIO(password)
        return self.run("registry", "add", "mine", "--url", url, "--username", "me", *more)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setattr(sys, "stdin", sys.stdin)  # put back at the end
    return Cli(capsys, tmp_path, monkeypatch)


def test_a_login_is_added_listed_and_forgotten(served: ServedRuns, cli: Cli) -> None:
    code, _, said = cli.add("hunter22\n", "--password-stdin")
    assert code == 0, said
    assert "containerRegistry: mine" in said
    code, listed, _ = cli.run("registry", "list", "-o", "json")
    (found,) = json.loads(listed)
    assert "hunter22" not in listed
    assert (code, found["name"], found["url"], found["username"]) == (0, "mine", "https://ghcr.io", "me")
    assert "https://ghcr.io" in cli.run("get", "registries")[1]
    assert cli.run("registry", "delete", "mine")[0] == 0
    assert "registry add" in "".join(cli.run("registry", "list")[1:])


def test_what_is_not_there_cannot_be_forgotten(served: ServedRuns, cli: Cli) -> None:
    assert cli.run("registry", "delete", "none")[0] == 3


def test_the_password_is_what_was_typed_without_its_line_end(served: ServedRuns, cli: Cli) -> None:
    assert cli.add(" two words \n")[0] == 0
    bench = served.bench
    login = served.call(lambda: Registries(bench.db, bench.vault, bench.clock).login(["mine"], "ghcr.io/x"))
    assert login.auth is not None
    assert login.auth["password"] == " two words "


@pytest.mark.parametrize(("password", "url"), [("", "ghcr.io"), ("x", "https://me:secret@ghcr.io")])
def test_what_cannot_be_one_is_refused_in_words(served: ServedRuns, cli: Cli, password: str, url: str) -> None:
    code, _, said = cli.add(password, url=url)
    assert code == 2
    assert said
    assert "me:secret" not in said
