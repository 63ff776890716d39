"""Endings in words."""

from __future__ import annotations

import pytest

from appliance.engine.endings import LINE_LENGTH, LINES, ending, last_lines
from appliance.engine.types import Container


def container(**more: object) -> Container:
    values = {"id": "c", "name": "n", "image": "i", "image_id": "i", "labels": {}, "state": "exited", **more}
    return Container(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "by itself"), (1, "failed"), (3, "failed"), (127, "not found"), (139, "segmentation"), (130, "signal 2")],
)
def test_exit_codes_have_words(code: int, words: str) -> None:
    assert words in ending(container(exit_code=code))
    assert f"exit code {code}" in ending(container(exit_code=code))


def test_memory_and_a_refused_start_come_first() -> None:
    assert "memory" in ending(container(exit_code=137, oom_killed=True))
    assert ending(container(state="created", error="no such file")) == "it could not be started: no such file"


def test_the_last_lines_are_few_clean_and_without_secrets() -> None:
    text = "\n".join(f"line {number}" for number in range(50)) + "\n\x1b[31mpassword hunter2\x1b[0m\n\n" + "x" * 999
    lines = last_lines(text, ["hunter2", ""]).splitlines()
    assert len(lines) == LINES
    assert lines[-2] == "[31mpassword ***[0m"
    assert lines[-1] == "x" * LINE_LENGTH
