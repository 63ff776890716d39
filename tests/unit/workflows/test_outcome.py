"""How a container ended, in words."""

from __future__ import annotations

import pytest

from appliance.engine.types import Container
from appliance.workflows.outcome import Outcome, outcome_of


@pytest.mark.parametrize(
    ("code", "oom", "error", "phase", "words"),
    [
        (0, False, "", "Succeeded", ""),
        (1, False, "", "Failed", "exit code 1"),
        (127, False, "", "Failed", "exit code 127: command not found"),
        (137, False, "", "Failed", "exit code 137: killed by SIGKILL"),
        (139, False, "", "Failed", "exit code 139: killed by SIGSEGV"),
        (255, False, "", "Failed", "exit code 255"),
        (137, True, "", "Failed", "out of memory"),
        (128, False, "no such device", "Error", "no such device"),
        (None, False, "", "Error", "does not say"),
    ],
)
def test_the_words(code: int | None, oom: bool, error: str, phase: str, words: str) -> None:
    container = Container("id", "n", "i", "i", {}, "exited", exit_code=code, oom_killed=oom, error=error)
    found = outcome_of(container)
    assert isinstance(found, Outcome)
    assert found.phase == phase
    assert words in found.message


def test_a_command_that_the_image_lacks_is_told_from_one_that_the_script_lacks() -> None:
    container = Container("id", "n", "i", "i", {}, "exited", exit_code=127)
    line = "[FATAL tini (7)] exec bash failed: No such file or directory\n"
    assert outcome_of(container, line) == Outcome(
        "Error", "the image cannot run bash: No such file or directory (script@v1 needs it)", hopeless=True
    )
    assert outcome_of(container, "script: line 1: x: command not found").phase == "Failed"


@pytest.mark.parametrize(
    ("code", "error", "last_line", "hopeless"),
    [
        (127, "", "[FATAL tini (7)] exec train failed: No such file or directory", True),
        (126, "", "[FATAL tini (7)] exec ./train failed: Exec format error", True),
        (126, "", "[FATAL tini (7)] exec ./train failed: Permission denied", True),
        (128, 'exec: "train": executable file not found in $PATH', "", True),
        (128, "exec /train: exec format error", "", True),
        (128, "no such device", "", False),
        (127, "", "line 7: aws: command not found", False),
        (126, "", "line 7: ./fetched: Permission denied", False),
        (137, "", "", False),
        (1, "", "", False),
    ],
)
def test_what_no_attempt_can_cure(code: int, error: str, last_line: str, hopeless: bool) -> None:
    container = Container("id", "n", "i", "i", {}, "exited", exit_code=code, error=error)
    assert outcome_of(container, last_line).hopeless is hopeless
