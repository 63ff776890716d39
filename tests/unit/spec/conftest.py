"""Short ways to what a text says and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent

import pytest

from appliance.errors import Problem
from appliance.spec.load import Loaded, examine_text, load_text

Load = Callable[..., Loaded]
Wrong = Callable[..., list[Problem]]


@pytest.fixture
def load() -> Load:
    """The one document of a text that is valid."""

    def one(text: str, *, file: str = "thing.yaml") -> Loaded:
        (found,) = load_text(dedent(text), file=file)
        return found

    return one


@pytest.fixture
def wrong() -> Wrong:
    """The problems of a text."""

    def problems(text: str, *, file: str = "thing.yaml") -> list[Problem]:
        return [problem for one in examine_text(dedent(text), file=file) for problem in one.problems]

    return problems
