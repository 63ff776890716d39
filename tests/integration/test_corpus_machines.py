"""Every machine type that a real Gradient file names says something here, whatever GPUs the machine has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from appliance.api.machines import gives
from appliance.scheduler.types import Card
from appliance.spec.catalogue import GIB
from appliance.spec.load import examine_file
from appliance.spec.machines import known, shape_of
from appliance.spec.models import Deployment, Workflow
from tests.integration.test_corpus import CASES, needs_corpus

ONE = [Card("GPU-1", "GPU-1", memory=24 * GIB)]
SPLIT = [Card(f"MIG-{number}", "GPU-1", "mig", "1g.10gb", 9 * GIB) for number in range(7)]


def named() -> Iterator[str]:
    for case in CASES:
        for one in examine_file(case.path):
            match one.loaded.spec if one.loaded else None:
                case Workflow(jobs=jobs):
                    yield from (job.machine for job in jobs.values() if job.machine)
                case Deployment(machine=machine) if machine:
                    yield machine


@needs_corpus
def test_every_name_maps(capsys: pytest.CaptureFixture[str]) -> None:
    names = Counter(named())
    assert names
    with capsys.disabled():
        print(
            "",
            *(f"{count:4} {name:12} {gives(shape_of(name, 0, {}, ONE)[0])}" for name, count in names.items()),
            sep="\n",
        )
    for name in names:
        assert known(name, {}), name
        assert not shape_of(name, 0, {}, None)[0].gpus
        one, warning = shape_of(name, 0, {}, ONE)
        assert bool(one.gpus) == (not name.startswith("C"))
        assert one.least <= 24 * GIB
        assert bool(warning) == (name in ("A100", "A6000")), name
        split = shape_of(name, 0, {}, SPLIT)[0]
        assert split.mig == ("1g.10gb" if one.gpus else "")


@needs_corpus
def test_no_real_file_has_our_own_words() -> None:
    for case in CASES:
        for one in examine_file(case.path):
            ours = {problem.path.rpartition(".")[2] for problem in one.extensions}
            assert not ours & {"owner", "priority", "preemptible"}, case.path.name
