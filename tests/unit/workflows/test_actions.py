"""What a job's container is made of, per action."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.types import Container, ContainerSpec
from appliance.errors import UsageError
from appliance.headless.inside import run_notebook
from appliance.spec.limits import Limits
from appliance.spec.models import (
    Alias,
    ContainerAction,
    CreateModelAction,
    DeployAction,
    Job,
    NotebookAction,
    Output,
    S3DownloadAction,
    ScriptAction,
    Workflow,
)
from appliance.state.runs import Run
from appliance.workflows.outcome import outcome_of
from appliance.workflows.steps.actions import Task, container_spec, problems, says_how_it_ended, task_of

ONE = {"out": Output(type="volume")}


def task(job: Job) -> Task:
    return task_of(job, env=job.env, event={}, reveal=str, notebook_image="jupyter")


def run() -> Run:
    return Run("f" * 32, 3, "u", "flow", {}, {}, "Running", "", False, 0.0, 0.0, None)


LIMITS = Limits(2.5, 1 << 30, 1 << 20)


def container(env: Mapping[str, str], push_port: int = 0) -> ContainerSpec:
    return container_spec(
        run(),
        "train",
        Task("i"),
        instance="abcd",
        image="i",
        env=env,
        mounts=(),
        port=7070,
        push_port=push_port,
        limits=LIMITS,
    )


def variables(env: Mapping[str, str], push_port: int = 0) -> Mapping[str, str]:
    return container(env, push_port).env


def test_the_limits_of_the_machine_type_are_the_containers() -> None:
    made = container({})
    assert Limits(made.cpus, made.memory_bytes, made.shm_bytes) == LIMITS


@pytest.mark.parametrize(
    ("command", "args"),
    [(None, None), (None, ("bash", "-c", "x")), (("bash",), ("-c", "x")), (("bash",), None)],
)
def test_a_container_keeps_what_it_does_not_replace(
    command: tuple[str, ...] | None, args: tuple[str, ...] | None
) -> None:
    found = task(Job(action=ContainerAction(image="i", command=command, args=args)))
    assert (found.image, found.entrypoint, found.command, found.files) == ("i", command, args, {})


def test_a_script_is_a_file_for_bash_without_e() -> None:
    found = task(Job(action=ScriptAction(image="i", script="false\ntrue")))
    assert (found.entrypoint, found.command) == (("bash", "/run/appliance/script"), ())
    assert found.files == {"script": "false\ntrue"}
    assert not found.secret


def test_the_variables_of_a_job() -> None:
    given = variables({"OWN": "1", "PS_JOBSPACE": "/mine"})
    assert given["APPLIANCE_RUN"] == "flow.3"
    assert given["APPLIANCE_JOB"] == "train"
    assert given["PROJECT_ID"]
    assert given["PAPERSPACE_CLUSTER_ID"]
    assert given["PS_MODEL_PATH"] == "/storage/models/"
    assert (given["OWN"], given["PS_JOBSPACE"]) == ("1", "/mine")


def test_a_job_knows_where_to_push_metrics_unless_it_says_where_itself() -> None:
    given = variables({}, push_port=9091)
    assert given["PAPERSPACE_METRIC_PUSHGATEWAY"] == "http://host.docker.internal:9091"
    assert (given["PAPERSPACE_METRIC_WORKLOAD_ID"], given["PAPERSPACE_METRIC_WORKLOAD_TYPE"]) == ("f" * 32, "workflow")
    own = {"PAPERSPACE_METRIC_PUSHGATEWAY": "http://mine:1"}
    assert variables(own, push_port=9091)["PAPERSPACE_METRIC_PUSHGATEWAY"] == "http://mine:1"
    assert "PAPERSPACE_METRIC_PUSHGATEWAY" not in variables({}, push_port=0)


def test_no_job_is_given_a_key_to_the_appliance() -> None:
    assert not [name for name in variables({}) if any(word in name for word in ("KEY", "TOKEN", "SECRET"))]


# notebook@v1


def notebook(**fields: Any) -> Job:
    return Job(action=NotebookAction(**{"notebook": "/inputs/repo/train.ipynb", **fields}), outputs=ONE)


def request(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(task(job).files["request.json"])
    return found


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/outputs/out/train.ipynb"),
        ("/outputs/out/deep", "/outputs/out/deep/train.ipynb"),
        ("/outputs/out/done.ipynb", "/outputs/out/done.ipynb"),
    ],
)
def test_where_the_executed_notebook_goes(path: str, expected: str) -> None:
    assert request(notebook(path=path))["output"] == expected


def test_a_notebook_runs_in_its_image_else_in_the_default_one() -> None:
    assert task(notebook()).image == "jupyter"
    assert task(notebook(image="mine")).image == "mine"
    assert task(notebook()).entrypoint == ("python3", "/run/appliance/run_notebook.py")


def test_parameters_go_through_as_they_are() -> None:
    parameters = {"lr": 0.1, "n": 3, "on": True, "none": None, "words": ["a", 'b"\n'], "map": {"k": {"v": [1]}}}
    assert request(notebook(parameters=parameters))["parameters"] == parameters
    made: dict[str, Any] = {}
    exec(run_notebook.source_of({**parameters, "inf": float("-inf")}), made)
    assert {name: made[name] for name in parameters} == parameters
    assert made["inf"] == float("-inf")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"notebook": "train.ipynb"}, "not the path of a notebook"),
        ({"notebook": "/inputs/train.py"}, "not the path of a notebook"),
        ({"parameters": {"a b": 1}}, "cannot be the name"),
        ({"parameters": {"x\nimport os": 1}}, "cannot be the name"),
        ({"parameters": {"class": 1}}, "cannot be the name"),
        ({"path": "/inputs/x"}, "below /outputs"),
    ],
)
def test_what_a_notebook_job_may_not_say(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        task(notebook(**fields))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([], (0, 0)),
        ([[], ["parameters"], []], (2, 2)),
        ([["parameters"], ["injected-parameters"]], (1, 2)),
        ([[], [], ["x"]], (0, 0)),
    ],
)
def test_where_parameters_are_injected(tags: list[list[str]], expected: tuple[int, int]) -> None:
    assert run_notebook.place_of(tags) == expected


def test_a_cells_title_is_its_first_line_that_says_something() -> None:
    assert run_notebook.title(type("Cell", (), {"source": "# a\n\n  x = 1\ny"})) == "x = 1"
    assert run_notebook.title(type("Cell", (), {"source": "# only"})) == "# only"


def test_the_notebook_program_is_old_enough_python() -> None:
    """The image is the user's, and Jupyter images with Python 3.8 are around."""
    import ast

    ast.parse(Path(run_notebook.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))


# What is refused before the start


def test_what_cannot_run_is_told_before_the_start() -> None:
    jobs = {
        "s3": Job(action=S3DownloadAction(url="s3://x", access_key="a", secret_access_key="secret:K"), outputs=ONE),
        "nowhere": Job(action=S3DownloadAction(url="s3://bucket/x", access_key="a", secret_access_key="secret:K")),
        "notebook": notebook(notebook="x"),
        "deploy": Job(action=DeployAction(name="web")),
        "fine": Job(action=DeployAction(name="web"), inputs={"model": Alias(job="train", name="model-id")}),
        "bad": Job(action=DeployAction(name="web", spec={"image": "x", "resorces": {}})),
    }
    found = problems(Workflow(name="flow", jobs=jobs))
    assert [text.partition(":")[0] for text in found] == [
        "job s3",
        "job nowhere",
        "job notebook",
        "job deploy",
        "job bad",
    ]
    assert "not a bucket address" in found[0]
    assert "resorces" in found[4]


# How a program of ours says how it ended


def ended(code: int) -> Container:
    return Container("id", "name", "image", "image-id", {}, "exited", exit_code=code)


def test_the_last_line_of_a_program_of_ours_is_the_message() -> None:
    told = outcome_of(ended(1), "appliance: cell 3 (fit()): ValueError: no data\n")
    assert (told.phase, told.message) == ("Failed", "cell 3 (fit()): ValueError: no data")
    assert outcome_of(ended(0), "appliance: 12 objects\n").message == "12 objects"
    assert outcome_of(ended(1), "Traceback\n").message == "exit code 1"
    assert len(outcome_of(ended(1), "appliance: " + "x" * 9999).message) < 1000


def test_only_programs_of_ours_are_asked() -> None:
    asked = [
        says_how_it_ended(Job(action=action))
        for action in (
            ScriptAction(image="i", script="x"),
            ContainerAction(image="i"),
            CreateModelAction(name="m", type="Custom"),
            NotebookAction(notebook="/x.ipynb"),
        )
    ]
    assert asked == [False, False, False, True]


def test_the_kernel_gets_sockets_only_where_it_is_known_to_take_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = {"ipykernel": 7, "jupyter_client": 8}
    monkeypatch.setattr(run_notebook, "major", installed.__getitem__)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    folder = Path(run_notebook.sockets("python"))
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)
    assert run_notebook.sockets("R") == ""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert run_notebook.sockets("python") == ""
    assert list(long.iterdir()) == []
    installed["ipykernel"] = 6
    assert run_notebook.sockets("python") == ""
