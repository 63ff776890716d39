"""Names of branches and tags against `on.github`."""

from __future__ import annotations

import time

import pytest

from appliance.spec.models import Patterns, Triggers
from appliance.triggers.patterns import matches, selects, starts


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("main", "main", True),
        ("main", "main2", False),
        ("main", "Main", False),
        ("", "", True),
        ("*", "main", True),
        ("*", "feature/a", False),
        ("**", "feature/a/b", True),
        ("feature/*", "feature/a", True),
        ("feature/*", "feature/a/b", False),
        ("feature/**", "feature/a/b", True),
        ("**/fix", "a/b/fix", True),
        ("releases/**-alpha", "releases/1/x-alpha", True),
        ("releases/**-alpha", "releases/1/x-beta", False),
        ("v[12].[0-9]+.[0-9]+", "v1.10.1", True),
        ("v[12].[0-9]+.[0-9]+", "v3.1.1", False),
        ("v[12].[0-9]+.[0-9]+", "v1.x.1", False),
        ("mai?n", "man", True),
        ("mai?n", "main", True),
        ("mai?n", "maiin", False),
        ("a+b", "aaab", True),
        ("a+b", "b", False),
        ("a+b", "a+b", True),
        ("c\\+\\+", "c++", True),
        ("a.c", "abc", False),
        ("[", "[", True),
        ("[]", "[]", True),
        ("*", "", True),
        ("ä*", "ärger", True),
    ],
)
def test_a_glob_of_github(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (Patterns(), {"main", "dev", "release/1"}),
        (Patterns(only="main"), {"main"}),
        (Patterns(include=("main", "dev")), {"main", "dev"}),
        (Patterns(only="dev", include=("main",)), {"main", "dev"}),
        (Patterns(ignore=("dev",)), {"main", "release/1"}),
        (Patterns(include=("**",), ignore=("release/*",)), {"main", "dev"}),
        (Patterns(only="main", ignore=("main",)), set()),
    ],
)
def test_only_include_and_ignore(patterns: Patterns, chosen: set[str]) -> None:
    assert {name for name in ("main", "dev", "release/1") if selects(patterns, name)} == chosen


def test_branches_and_tags_are_told_apart() -> None:
    branches = Triggers(branches=Patterns(only="x"))
    assert starts(branches, "refs/heads/x")
    assert not starts(branches, "refs/tags/x")
    assert not starts(branches, "refs/pull/x")
    assert not starts(Triggers(spec=True), "refs/heads/x")
    assert starts(Triggers(tags=Patterns(include=("v*",))), "refs/tags/v1")


@pytest.mark.parametrize("pattern", ["**" * 60 + "x", "*a" * 100, "a?" * 100 + "a" * 50, "[a-z]+" * 40 + "!"])
def test_a_hostile_pattern_costs_no_more_than_its_length(pattern: str) -> None:
    before = time.process_time()
    matches(pattern, "a" * 250)
    assert time.process_time() - before < 1.0
