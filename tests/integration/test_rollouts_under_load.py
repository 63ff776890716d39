"""64 keep-alive connections while revisions come and go: not one request fails, whoever ends meanwhile.

Two and a half times as much, told step by step: `python -m tests.bench.bench_rollouts`.
"""

from __future__ import annotations

import pytest

from tests.support.daemon import RunningDaemon
from tests.support.load import Load, Wrk
from tests.support.serving import apply, ready, served
from tests.support.storm import Storm, rage

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

STORM = Storm(rollouts=8, kills=2, restarts=2, scales=4)


@pytest.fixture(scope="module", autouse=True)
def base(base_image: str) -> str:
    return base_image


def test_rollouts_scalings_and_ends_of_the_daemon_fail_no_request(
    daemon: RunningDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(daemon, served("web", "v0"))
    ready(daemon, "web", replicas=2)
    path = "/deployments/web/predict?ms=20"
    with Load(daemon.port, path) as load, Wrk(f"{daemon.url}{path}", connections=4, most_s=3600) as witness:
        load.more(200)
        rage(daemon, load, "web", STORM, told=lambda words: None)
        answered, failed, output = witness.finish()
    found = load.found
    with capsys.disabled():
        print(f"\n{STORM.words()}: {found.words()}; wrk beside it: {answered} requests, {failed} failed")
    assert not found.failures, found.failed()
    assert failed == 0, output
    assert {body.split()[0] for body in found.bodies} == {f"v{number}" for number in range(STORM.rollouts + 1)}
