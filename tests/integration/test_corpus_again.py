"""Real Gradient files run again: from the step cache, after a failure, and on a push without anybody asking."""

from __future__ import annotations

import json

from tests.support.corpus import Stage, exchanged, needs_corpus
from tests.support.corpus_programs import INFER, MNIST
from tests.support.daemon import eventually
from tests.support.git import Repository

pytestmark = needs_corpus

MNIST_FILE = "dkobran--mnist-sample-1--workflow.yaml"
INFER_FILE = "gradient-ai--Deployments--fashion-mnist-infer.yaml"


def mnist(stage: Stage) -> dict[str, str]:
    return {"tensorflow/tensorflow:1.13.1-gpu-py3": stage.image, "paperspace/gradient-sdk": stage.image}


def infer(stage: Stage, code: Repository) -> dict[str, str]:
    return {
        "https://github.com/gradient-ai/Deployments-Create-Deploy-Infer.git": code.url,
        "nvcr.io/nvidia/tensorflow:21.09-tf2-py3": stage.image,
        'SERVE_URL: "..."': f'SERVE_URL: "{stage.address}/v1/models/trained-model:predict"',
    }


def told(stage: Stage, reason: str) -> list[str]:
    events = stage.daemon.client.items("events", kind="repository", name="pushed")
    return [event["message"] for event in events if event["reason"] == reason]


def test_a_commit_that_was_trained_is_not_trained_again(stage: Stage) -> None:
    """The commit, the image and the data set's version identify a job; what has no outputs runs for its effects."""
    code = stage.git.repository("again/mnist", {"mnist.py": MNIST})
    stage.dataset("mnist-sample")
    first = stage.run(MNIST_FILE, "again", mnist(stage), event=code)
    versions = stage.versions("mnist-sample")
    second = stage.run(MNIST_FILE, "again", mnist(stage), event=code)
    assert stage.started(first) == ["CloneRepo", "TrainModel", "DeployModel"]
    assert stage.started(second) == ["DeployModel"]
    for job in ("CloneRepo", "TrainModel"):
        assert second.jobs[job]["reused"] == f"{first.name}/{job}"
        assert f"as {first.name}/{job}" in second.jobs[job]["message"]
        assert second.jobs[job]["outputs"] == first.jobs[job]["outputs"]
    assert stage.versions("mnist-sample") == versions
    assert second.text("UploadModel", "model-id") != first.text("UploadModel", "model-id")
    code.commit({"README": "another commit"})
    third = stage.run(MNIST_FILE, "again", mnist(stage), event=code)
    assert stage.started(third) == ["CloneRepo", "TrainModel", "DeployModel"]
    replayed = stage.follow("replay", second.name)
    assert stage.started(replayed) == ["CloneRepo", "TrainModel", "DeployModel"]
    assert replayed.files("TrainModel", "trained-model") == first.files("TrainModel", "trained-model")


def test_a_run_that_failed_goes_on_where_it_stood(stage: Stage) -> None:
    """The server that is asked for predictions is down at first."""
    code = stage.git.repository("again/infer", {"infer.py": INFER})
    stage.daemon.client.put_secret("api_key", "key-0123456789")
    (stage.served / "down").touch()
    failed = stage.run(INFER_FILE, "infer", infer(stage, code), ends="Failed")
    assert failed.jobs["SendInferenceData"]["capsule"]
    assert any("503" in line for line in failed.log("SendInferenceData"))
    code.commit({"infer.py": "raise SystemExit('not the file that the failed run has cloned')"})
    (stage.served / "down").unlink()
    resumed = stage.follow("resume", failed.name)
    assert stage.started(resumed) == ["SendInferenceData"]
    assert resumed.jobs["CloneRepo"]["reused"] == f"{failed.name}/CloneRepo"
    assert resumed.log("SendInferenceData") == ["3 predictions"]
    assert resumed.document["parent"] == failed.name


def test_a_push_runs_what_the_repository_holds(stage: Stage) -> None:
    """The file as it is, in `.gradient/workflows` of its own repository: the event is the pushed commit."""
    path = ".gradient/workflows/workflow.yaml"
    code = stage.git.repository("again/pushed", {"README": "not yet"})
    stage.dataset("mnist-sample")
    declared = {"kind": "repository", "name": "pushed", "url": code.url, "interval": "5s"}
    stage.daemon.client.apply(json.dumps(declared), "a test")
    eventually(lambda: told(stage, "FirstLook"), within_s=60, what="a first look at the repository")
    code.commit({path: exchanged(MNIST_FILE, mnist(stage)), "mnist.py": "raise SystemExit('only main')"}, branch="side")
    pushed = code.commit({path: exchanged(MNIST_FILE, mnist(stage)), "mnist.py": MNIST})
    code.commit({"later.txt": "a branch that the workflow does not mean"}, branch="side")

    def begun() -> str:
        runs = [run["name"] for run in stage.daemon.client.items("runs") if run["workflow"].startswith("pushed.")]
        assert len(runs) < 2, runs
        return runs[0] if runs else ""

    name = eventually(begun, within_s=60, what="a run of the pushed workflow")
    ran = stage.follow("follow", name)
    assert ran.document["cause"] == "git"
    assert ran.document["spec"]["context"]["event"]["github"] == {"url": code.url, "ref": pushed}
    assert ran.files("TrainModel", "trained-model") == {"my-trained-model/saved_model.pb": "trained for 250 epochs"}
    assert pushed in "\n".join(ran.log("CloneRepo"))


def test_a_replay_clones_what_was_cloned(stage: Stage) -> None:
    """The checkout names no commit, and the branch has moved since."""
    code = stage.git.repository("again/replayed", {"infer.py": INFER})
    stage.daemon.client.put_secret("api_key", "key-0123456789")
    first = stage.run(INFER_FILE, "replayed", infer(stage, code))
    code.commit({"infer.py": "raise SystemExit('not the file that was cloned')"})
    replayed = stage.follow("replay", first.name)
    assert replayed.log("SendInferenceData") == ["3 predictions"]
