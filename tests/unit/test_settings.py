"""Settings: the table, where values come from, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import UsageError
from appliance.location import default_home
from appliance.settings import SETTINGS, load

README = Path(__file__).parents[2] / "README.md"


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('port = 8000\nhost = "127.0.0.2"\n')
    settings = load({"APPLIANCE_PORT": "9000"}, home=tmp_path)
    assert (settings.port, settings.host, settings.shm_mb) == (9000, "127.0.0.2", 1024)
    assert settings.origins["port"] == "APPLIANCE_PORT"
    assert settings.origins["host"] == str(tmp_path / "config.toml")
    assert settings.origins["shm_mb"] == "default"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port = [1]", "setting port must be of type int"),
        ("port = 99999", "setting port must be 1 to 65535"),
        ("max_parallel_jobs = 0", "setting max_parallel_jobs must be 1 to"),
        ("resync_s = nan", "setting resync_s must be"),
        ("port = true", "setting port must be of type int"),
        ("prot = 1", "unknown setting 'prot'"),
        ("port = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_named_with_the_setting(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UsageError, match=expected.replace("[", r"\[")) as caught:
        load({}, home=tmp_path)
    assert str(tmp_path / "config.toml") in str(caught.value)


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="APPLIANCE_PORT"):
        load({"APPLIANCE_PORT": "http"}, home=tmp_path)


@pytest.mark.parametrize("variable", ["APPLIANCE_PUSH_PORT", "APPLIANCE_PORT"])
def test_two_doors_have_two_ports(tmp_path: Path, variable: str) -> None:
    given = {"APPLIANCE_PUSH_PORT": "7070", "APPLIANCE_PORT": "9091"}[variable]
    with pytest.raises(UsageError, match="push_port are both") as caught:
        load({variable: given}, home=tmp_path)
    assert caught.value.where == variable


def test_the_home_comes_from_the_environment() -> None:
    assert default_home({"APPLIANCE_HOME": "/data/a"}) == Path("/data/a")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_in_the_readme(setting: object) -> None:
    assert f"`{setting.name}`" in README.read_text()  # type: ignore[attr-defined]
