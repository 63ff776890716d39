"""`appliance notebook create`: its options are what a spec says."""

from __future__ import annotations

import argparse

import pytest

from appliance.cli import render
from appliance.cli.notebook import configure_notebook
from appliance.cli.notebook_create import document_of, run_create
from appliance.errors import Conflict, UsageError
from appliance.spec.load import parse
from appliance.spec.models import Idle, Notebook, Workspace


def given(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    configure_notebook(parser)
    return parser.parse_args(["create", "nb", *words])


def read(*words: str) -> Notebook:
    found = parse("notebook", "nb", document_of(given(*words)))
    assert isinstance(found, Notebook)
    return found


def test_nothing_given_is_nothing_said() -> None:
    assert document_of(given()) == {"kind": "notebook", "name": "nb"}


def test_every_option_is_a_key_that_the_spec_knows() -> None:
    found = read(
        *("--image", "i", "--registry", "hub", "--machine", "C4", "--gpus", "2", "--user", "1000:100"),
        *("--quota", "1G", "--shm", "2G", "--idle", "30m", "--shutdown", "6h", "--env", "A=b=c"),
        *("--dataset", "d=mnist:v1", "--model", "m=bert", "--secret", "ONE", "--secret", "TWO"),
        *("--workspace", "https://example.com/o/r", "--ref", "main"),
        *("--owner", "anna", "--priority", "-5", "--preemptible"),
    )
    assert (found.image, found.registry, found.machine, found.gpus) == ("i", "hub", "C4", 2)
    assert (found.user, found.quota, found.shm) == ("1000:100", 1 << 30, 2 << 30)
    assert (found.idle, found.shutdown_s) == (Idle(after_s=1800.0), 21_600.0)
    assert (found.env, found.models, found.secrets) == ({"A": "b=c"}, {"m": "bert"}, ("ONE", "TWO"))
    assert found.datasets["d"].ref == "mnist:v1"
    assert (found.owner, found.priority, found.preemptible) == ("anna", -5, True)
    assert found.workspace == Workspace(url="https://example.com/o/r", ref="main")


@pytest.mark.parametrize("words", [("--ref", "main"), ("--model", "bert"), ("--env", "=b")])
def test_what_means_nothing_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        document_of(given(*words))


def test_one_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Daemon:
        def items(self, kind: str) -> list[dict[str, str]]:
            return [{"name": "My-Lab"}]

    monkeypatch.setattr(render, "client", Daemon)
    args = given("--idle", "never")
    args.name = "My Lab"
    with pytest.raises(Conflict, match="nothing was changed") as refused:
        run_create(args)
    assert "appliance notebook set My-Lab" in refused.value.hint
