"""Counts on the command line: what is no count is refused before anything is asked of the daemon."""

from __future__ import annotations

import pytest

from appliance.cli import render
from appliance.cli.main import main

FROM_ONE = {
    "history": ["notebook", "history", "nb", "-n"],
    "revisions": ["deployment", "history", "web", "-n"],
    "lines": ["logs", "deployment/web", "-n"],
    "runs": ["workflow", "runs", "train", "-n"],
    "points": ["backup", "/backups", "--keep"],
    "changes": ["notebook", "diff", "nb", "--limit"],
    "back": ["deployment", "rollback", "web", "--to"],
    "older": ["deployment", "diff", "web"],
    "newer": ["deployment", "diff", "web", "1"],
}
FROM_NOUGHT = {"gpus": ["notebook", "create", "nb", "--gpus"], "replicas": ["deployment", "scale", "web"]}
WRONG = ("-1", "-2", "x", "1.5", "", "1_0", "٣", "9" * 10)


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        pytest.fail("the daemon is asked")

    monkeypatch.setattr(render, "client", refuse)


@pytest.mark.parametrize("command", FROM_ONE.values(), ids=FROM_ONE)
@pytest.mark.parametrize("given", ["0", *WRONG])
def test_a_count_is_from_one_on(command: list[str], given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main([*command, given])
    assert refused.value.code == 2
    assert f"{given!r} is not a number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize("command", FROM_NOUGHT.values(), ids=FROM_NOUGHT)
@pytest.mark.parametrize("given", WRONG)
def test_a_number_that_may_be_none_is_from_nought_on(
    command: list[str], given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main([*command, given])
    assert refused.value.code == 2
    assert f"{given!r} is not a number from 0 on" in capsys.readouterr().err


def test_nought_is_a_count_where_there_may_be_none() -> None:
    assert render.count("0") == 0
    assert render.positive("1") == render.count("1") == 1
