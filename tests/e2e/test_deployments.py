"""Deployments as their users meet them: revisions with their models, the way back, who may call, commands inside."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import transfer
from tests.support.daemon import RunningDaemon, eventually
from tests.support.load import Load
from tests.support.serving import apply, fetch, ready, served, story

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]


@pytest.fixture(scope="module", autouse=True)
def base(base_image: str) -> str:
    return base_image


def model(daemon: RunningDaemon, name: str, weights: str) -> str:
    """A new version of the dataset `name`, registered as the newest model of that name. Its id."""
    daemon.client.apply(json.dumps({"kind": "dataset", "name": name}), "a test")
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        Path(folder, "weights").write_text(weights)
        ref = str(transfer.put(daemon.client, name, Path(folder), tags=[])["ref"])
    return str(daemon.client.create_model(name, ref, "Custom")["id"])


def with_model(name: str, version: str, model: str, **more: Any) -> dict[str, Any]:
    return served(name, version, replicas=1, models=[{"id": model, "path": "/opt/models"}], **more)


def weights(daemon: RunningDaemon, name: str) -> str:
    return fetch(daemon, f"/deployments/{name}/file?path=/opt/models/weights")[1].decode()


def said(daemon: RunningDaemon, *arguments: str, code: int = 0) -> str:
    done = daemon.cli(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def phases(daemon: RunningDaemon, name: str) -> dict[int, str]:
    return {revision["generation"]: revision["phase"] for revision in daemon.client.revisions(name)}


def test_weights_go_back_with_the_spec(daemon: RunningDaemon) -> None:
    """A model by name: each revision goes on with the version it was begun with, and a rollback brings that back."""
    first = model(daemon, "cats", "first")
    apply(daemon, with_model("cats-api", "v1", "cats"))
    ready(daemon, "cats-api", replicas=1)
    assert weights(daemon, "cats-api") == "first"
    second = model(daemon, "cats", "second")
    apply(daemon, with_model("cats-api", "v2", "cats"))
    ready(daemon, "cats-api", replicas=1)
    assert weights(daemon, "cats-api") == "second"
    difference = said(daemon, "deployment", "diff", "cats-api", "1", "2")
    assert "v1" in difference
    assert "v2" in difference
    made_of = "\n".join(daemon.client.revision_diff("cats-api", 1, 2)["made_of"])
    assert "cats" in made_of, f"{first} -> {second}: {made_of}"

    said(daemon, "deployment", "rollback", "cats-api")
    ready(daemon, "cats-api", replicas=1)
    assert fetch(daemon, "/deployments/cats-api/x") == (200, b"v1")
    assert weights(daemon, "cats-api") == "first"
    newest = daemon.client.revisions("cats-api")[0]
    assert (newest["generation"], newest["cause"], newest["copies"], newest["phase"]) == (
        3,
        "rolled back",
        1,
        "Serving",
    )
    history = said(daemon, "deployment", "history", "cats-api")
    assert "rolled back" in history
    assert "Superseded" in history

    said(daemon, "deployment", "restart", "cats-api")
    ready(daemon, "cats-api", replicas=1)
    assert weights(daemon, "cats-api") == "second", "looked up anew"


def test_a_bad_revision_is_taken_back_by_itself_with_its_last_words(daemon: RunningDaemon) -> None:
    apply(daemon, served("steady", "good"))
    ready(daemon, "steady", replicas=2)
    with Load(daemon.port, "/deployments/steady/predict?ms=20") as load:
        load.more(200)
        apply(daemon, served("steady", "bad", env={"CRASH": "no module named torch"}))

        def taken_back() -> bool:
            return phases(daemon, "steady").get(2) == "Undone" and len(daemon.running_containers("steady")) == 2

        eventually(taken_back, within_s=60, what=lambda: story(daemon, "steady"))
        load.more(200)
    assert not load.found.failures, load.found.failed()
    assert {body.split()[0] for body in load.found.bodies} == {"good"}, "it never took traffic"
    item = daemon.client.get("deployments", "steady")
    assert item["phase"] == "Degraded"
    assert "generation 2" in item["message"]
    assert "generation 1" in item["message"]
    undone = daemon.client.revisions("steady")[0]
    assert "no module named torch" in undone["words"]
    assert "no module named torch" in story(daemon, "steady")
    daemon.kill()
    daemon.start()
    assert fetch(daemon, "/deployments/steady/predict") == (200, b"good")
    assert phases(daemon, "steady") == {1: "Serving", 2: "Undone"}
    apply(daemon, served("steady", "better"))
    ready(daemon, "steady", replicas=2)
    assert phases(daemon, "steady") == {1: "Superseded", 2: "Undone", 3: "Serving"}


def test_a_first_revision_that_fails_is_tried_again_until_it_is_corrected(daemon: RunningDaemon) -> None:
    apply(daemon, served("first", "bad", replicas=1, env={"CRASH": "no weights"}))
    daemon.phase("deployments", "first", "Failed")
    assert fetch(daemon, "/deployments/first/x")[0] in (502, 503, 504)
    apply(daemon, served("first", "good", replicas=1))
    ready(daemon, "first", replicas=1)
    assert fetch(daemon, "/deployments/first/x") == (200, b"good")


def test_scaling_replaces_no_replica(daemon: RunningDaemon) -> None:
    apply(daemon, served("wide", "v1", replicas=1))
    ready(daemon, "wide", replicas=1)
    before = set(daemon.running_containers("wide"))
    said(daemon, "deployment", "scale", "wide", "3")
    ready(daemon, "wide", replicas=3)
    assert before < set(daemon.running_containers("wide"))
    said(daemon, "deployment", "scale", "wide", "1")
    ready(daemon, "wide", replicas=1)
    assert len(daemon.client.revisions("wide")) == 3
    assert daemon.client.revisions("wide")[0]["cause"] == "scaled"


def test_a_password_a_key_and_limits(daemon: RunningDaemon) -> None:
    daemon.client.put_secret("PASSWORD", "open sesame")
    daemon.client.put_secret("KEY_A", "key-a-0123")
    document = served("private", "v1", basicAuthKey="secret:PASSWORD")
    shape = {"apiVersion": "v1", "resources": {"machineType": "C4", "replicas": 1, "ports": [document.pop("port")]}}
    apply(daemon, {**document, **shape})
    apply(
        daemon,
        served("keyed", "v1", replicas=1, endpoint={"keys": ["secret:KEY_A"], "rate": "5/10s", "maxBody": "1Ki"}),
    )
    ready(daemon, "private", replicas=1)
    ready(daemon, "keyed", replicas=1)
    basic = base64.b64encode(b"paperspace:open sesame").decode()
    wrong = base64.b64encode(b"paperspace:open").decode()
    assert fetch(daemon, "/deployments/private/x")[0] == 401
    assert fetch(daemon, "/deployments/private/x", authorization=f"Basic {wrong}")[0] == 401
    status, body = fetch(daemon, "/deployments/private/headers", authorization=f"Basic {basic}")
    assert status == 200
    assert "authorization" not in json.loads(body), "the replica is not shown what was checked"
    assert fetch(daemon, "/deployments/keyed/x")[0] == 401
    key = "Bearer key-a-0123"
    assert fetch(daemon, "/deployments/keyed/x", authorization=key) == (200, b"v1")
    assert fetch(daemon, "/deployments/keyed/x", method="POST", body=b"x" * 1024, authorization=key)[0] == 200
    assert fetch(daemon, "/deployments/keyed/x", method="POST", body=b"x" * 1025, authorization=key)[0] == 413
    statuses = [fetch(daemon, "/deployments/keyed/x", authorization=key)[0] for _ in range(8)]
    assert statuses[-1] == 429, statuses
    for path in daemon.home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"key-a-0123" not in path.read_bytes(), path


def test_a_command_in_a_replica(daemon: RunningDaemon) -> None:
    apply(daemon, served("inside", "v1"))
    ready(daemon, "inside", replicas=2)
    done = daemon.cli("deployment", "exec", "inside", "--", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1:]) == (5, "out\n", ["err"])
    frames: list[Any] = list(daemon.client.execute("inside", ["printenv", "VERSION"]))
    assert base64.b64decode(frames[0]["data"]) == b"v1\n"
    assert frames[-1]["exit_code"] == 0


def test_traffic_is_counted(daemon: RunningDaemon) -> None:
    apply(daemon, served("counted", "v1"))
    ready(daemon, "counted", replicas=2)
    for _ in range(30):
        assert fetch(daemon, "/deployments/counted/predict?ms=20")[0] == 200
    told = eventually(
        lambda: found if (found := daemon.client.traffic("counted"))["requests"] >= 30 else None,
        within_s=30,
        what=lambda: str(daemon.client.traffic("counted")),
    )
    assert (told["requests"], told["errors"]) == (30, 0)
    assert told["p50_s"] is not None
    assert told["p50_s"] >= 0.02
    assert sum(replica["requests"] for replica in told["replicas"]) == 30


def test_a_dry_run_tells_what_a_rollout_would_do_and_does_nothing(daemon: RunningDaemon, tmp_path: Path) -> None:
    apply(daemon, served("plan", "v1", replicas=1))
    ready(daemon, "plan", replicas=1)
    before = daemon.running_containers("plan")
    later = tmp_path / "plan.json"
    later.write_text(json.dumps(served("plan", "v2", replicas=1)))
    told = said(daemon, "apply", "--dry-run", "-f", str(later))
    assert "generation 2 replaces 1" in told
    later.write_text(json.dumps(served("plan", "v1", replicas=3)))
    told = said(daemon, "apply", "--dry-run", "-f", str(later))
    assert "generation 2 replaces no replica" in told, told
    assert daemon.running_containers("plan") == before
    assert daemon.client.get("deployments", "plan")["generation"] == 1


def test_load_makes_more_replicas_and_replaces_none(daemon: RunningDaemon) -> None:
    """Requests that last longer than is aimed at: more replicas without another revision, and why is said."""
    daemon.stop()
    daemon.extra["APPLIANCE_AUTOSCALE_EVERY_S"] = "1"
    daemon.start()
    try:
        aim = {"metric": "requestDuration", "summary": "average", "value": 0.02}
        scaling = {"autoscaling": {"enabled": True, "maxReplicas": 3, "metrics": [aim]}}
        apply(daemon, served("elastic", "v1", replicas=1, resources=scaling))
        ready(daemon, "elastic", replicas=1)
        before = set(daemon.running_containers("elastic"))
        with Load(daemon.port, "/deployments/elastic/predict?ms=200", connections=8) as load:
            ready(daemon, "elastic", replicas=3)
            load.more(50)
        assert not load.found.failures, load.found.failed()
        assert before < set(daemon.running_containers("elastic"))
        item = daemon.client.get("deployments", "elastic")
        assert item["generation"] == 1
        assert item["status"]["scale"]["replicas"] == 3
        events = daemon.client.items("events", kind="deployment", name="elastic")
        scaled = next(event["message"] for event in events if event["reason"] == "Scaled")
        assert "0.02 s are aimed at" in scaled
    finally:
        daemon.extra.clear()
        daemon.stop()
        daemon.start()
