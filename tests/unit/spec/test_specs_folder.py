"""What we show people must be valid, and say itself where it goes beyond Gradient."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.spec.load import SUFFIXES, load_file
from appliance.spec.models import Workflow

SPECS = Path(__file__).parents[3] / "specs"
FILES = sorted(path for path in SPECS.rglob("*") if path.suffix in SUFFIXES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_valid_and_warns_of_nothing(path: Path) -> None:
    for one in load_file(path):
        assert one.warnings == ()
        if isinstance(one.spec, Workflow):
            assert bool(one.spec.extensions) == (path.parent.name == "extensions")


def test_the_sweep() -> None:
    (found,) = load_file(SPECS / "extensions" / "sweep.yaml")
    assert isinstance(found.spec, Workflow)
    assert [(job.env["RATE"], job.env["DEPTH"]) for name, job in found.spec.jobs.items() if name != "pick"] == [
        ("0.1", "2"),
        ("0.1", "4"),
        ("0.1", "8"),
        ("1e-2", "2"),
        ("0.5", "1"),
    ]
