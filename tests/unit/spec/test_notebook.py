from __future__ import annotations

import pytest

from appliance.spec.models import Dataset, DatasetMount, Notebook
from tests.unit.spec.conftest import Load, Wrong


def test_a_notebook(load: Load) -> None:
    found = load(
        """
        kind: notebook
        name: lab
        image: jupyter/base
        env: {A: b}
        machine: A4000
        gpus: 1
        datasets:
          mnist: gradient/mnist:latest
          long: {type: dataset, ref: team/ds1:v2}
          docs: {type: dataset, id: ds2, version: latest}
        """
    )
    assert found.spec == Notebook(
        name="lab",
        image="jupyter/base",
        env={"A": "b"},
        machine="A4000",
        gpus=1,
        datasets={
            "mnist": DatasetMount(ref="gradient/mnist:latest"),
            "long": DatasetMount(ref="team/ds1:v2"),
            "docs": DatasetMount(ref="ds2:latest"),
        },
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [("[jupyter, lab]", ("jupyter", "lab")), ("jupyter lab --x", ("/bin/sh", "-c", "jupyter lab --x")), ("[]", None)],
)
def test_a_command_is_a_list_or_a_line_for_the_shell(load: Load, command: str, words: tuple[str, ...] | None) -> None:
    spec = load(f"kind: notebook\nname: a\ncommand: {command}\n").spec
    assert isinstance(spec, Notebook)
    assert spec.command == words


def test_env_may_be_a_list(load: Load) -> None:
    spec = load("kind: notebook\nname: a\nenv: [{name: A, value: b}]\n").spec
    assert isinstance(spec, Notebook)
    assert spec.env == {"A": "b"}


def test_a_dataset(load: Load) -> None:
    assert load("kind: dataset\nname: mnist\ndescription: Digits\n").spec == Dataset(name="mnist", description="Digits")


@pytest.mark.parametrize(
    ("text", "path", "words", "hint"),
    [
        ("kind: notebook\nname: a\ngpus: -1\n", "gpus", "from 0 to 64", ""),
        ("kind: notebook\nname: a\ncontainer: x\n", "container", "unknown key", "image"),
        ("kind: notebook\nname: a\nintegrations: {}\n", "integrations", "unknown key", "datasets"),
        ("kind: notebook\nname: a\ndatasets: {../x: a}\n", "datasets[`../x`]", "folder's name", ""),
        ("kind: notebook\nname: a\ndatasets: {x: ../a}\n", "datasets.x", "not a dataset reference", ""),
        ("kind: notebook\nname: a\ndatasets: {x: 5}\n", "datasets.x", "must be a dataset's name", ""),
        ("kind: notebook\nname: a\ndatasets: {x: {type: s3, ref: a}}\n", "datasets.x.type", "must be `dataset`", ""),
        ("kind: notebook\nname: ../a\n", "name", "reads like a path", ""),
        ("kind: dataset\nname: a\nref: b\n", "ref", "unknown key", ""),
        ("kind: notebok\nname: a\n", "kind", "must be `dataset`", "did you mean `notebook`?"),
        ("kind: [notebook]\nname: a\n", "kind", "must be a string", ""),
        ("name: a\n", "", "cannot be told", "jobs"),
    ],
)
def test_mistakes(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    (found,) = wrong(text)
    assert (found.path, words in found.message, hint in found.hint) == (path, True, True), found
