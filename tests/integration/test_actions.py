"""Every action on the real engine: what its container does, what it refuses, and what it says of how it ended."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.docker import Engine
from appliance.fetching.programs import files_of
from appliance.headless.program import INSIDE
from appliance.state import runs
from appliance.storage.directory.store import DirectoryStore
from tests.integration.test_workflows import BASE, Floor, a_floor, flow, script
from tests.support.git import GitServer, Repository, bridge_address, serve_git
from tests.support.s3 import Bucket, serve_s3

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.images]

VOLUME = {"type": "volume"}
LOGIN = "me:s3cret/with:odd@chars%"
NOTEBOOK = "/inputs/code/train.ipynb"


@pytest.fixture
async def floor(engine: Engine, base_image: str, tmp_path: Path) -> AsyncIterator[Floor]:
    store = DirectoryStore(tmp_path / "volumes", "a test", durable=False)
    async with a_floor(engine, tmp_path / "home", store, stop_grace_s="1") as made:
        yield made


def looking(job: str, text: str) -> dict[str, Any]:
    """A script with the output `files` of another job at /inputs/files."""
    return script(f"set -e; cd /inputs/files\n{text}", job, inputs={"files": f"{job}.outputs.files"})


async def told(floor: Floor, run: runs.Run) -> str:
    """Every job's phase, message and log, for who has to find out why."""
    found = [f"{job.name}: {job.phase}: {job.message}\n{await floor.log(run, job.name)}" for job in _jobs(floor, run)]
    return "\n\n".join(found)


def holding(folder: Path, secret: str) -> list[Path]:
    """Files with the secret in them: what is kept of a failed job must have none."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if secret.encode() in path.read_bytes()]


def _jobs(floor: Floor, run: runs.Run) -> list[runs.Job]:
    return list(floor.jobs(run).values())


# container@v1, script@v1


@pytest.fixture
def image_of_its_own(floor: Floor) -> Iterator[str]:
    """With an entrypoint, a command, a user and a folder that say so."""
    name = f"appliance-test-{floor.engine.instance}"
    recipe = f'FROM {BASE}\nWORKDIR /srv\nENTRYPOINT ["printf", "<%s>"]\nCMD ["its own"]\n'
    subprocess.run(["docker", "build", "-q", "-t", name, "-"], input=recipe, text=True, check=True, timeout=120)
    yield name
    subprocess.run(["docker", "image", "rm", name], capture_output=True, timeout=60, check=False)


async def test_a_container_runs_as_the_image_and_the_file_mean_it(floor: Floor, image_of_its_own: str) -> None:
    def container(**fields: Any) -> dict[str, Any]:
        return {"uses": "container@v1", "with": {"image": image_of_its_own, **fields}}

    run = floor.submit(
        flow(
            neither=container(),
            args=container(args=["a b", "$HOME"]),
            text=container(command="bash -c 'pwd; echo $0' zero"),
            shell=container(command="echo one && echo two | tr a-z A-Z"),
            both=container(command="bash", args=["-c", "echo $PS_JOBSPACE $PS_MODEL_PATH ${PROJECT_ID:+known}"]),
        )
    )
    await floor.finish(run)
    assert {name: (await floor.log(run, name)).splitlines() for name in floor.jobs(run)} == {
        "neither": ["<its own>"],
        "args": ["<a b><$HOME>"],
        "text": ["/srv", "zero"],
        "shell": ["one", "TWO"],
        "both": ["/storage /storage/models/ known"],
    }, await told(floor, run)


# git-checkout@v1


def checkout(url: str, **fields: str) -> dict[str, Any]:
    return {"uses": "git-checkout@v1", "with": {"url": url, **fields}, "outputs": {"files": VOLUME}}


def relative(repository: Repository, path: str, url: str) -> None:
    """Have the submodule at `path` named by `url`."""
    text = f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n'
    repository.commit({".gitmodules": text})


def a_nest(server: GitServer) -> Repository:
    """A private repository with large files, and a submodule that has a submodule; all on one server."""
    deep = server.repository("team/deep", {"deep.txt": "deep"}, login=LOGIN)
    lib = server.repository("team/lib", {"lib.txt": "lib"}, login=LOGIN)
    lib.commit({}, modules={"deep": deep})
    relative(lib, "deep", "../deep.git")
    lib.commit_lfs("lib.bin", b"lib" * 1000)
    app = server.repository("team/app", {"app.txt": "app", "-rf": "a dash"}, login=LOGIN)
    app.commit({}, modules={"vendor/lib": lib})
    relative(app, "vendor/lib", "../lib.git")
    app.commit_lfs("app.bin", b"app" * 1000)
    return app


LOOK = """
test "$(cat app.txt vendor/lib/lib.txt vendor/lib/deep/deep.txt)" = applibdeep
test "$(wc -c < app.bin)" = 3000 && test "$(wc -c < vendor/lib/lib.bin)" = 3000 && test -f ./-rf
! grep -r -e "s3"cret -e 'me:' -e credential .git
git -c safe.directory='*' status --porcelain | { ! grep .; }
"""


async def test_a_private_repository_with_submodules_and_large_files(floor: Floor, git_server: GitServer) -> None:
    app = a_nest(git_server)
    floor.vault.set("TOKEN", LOGIN.partition(":")[2])
    private = {"username": "me", "password": "secret:TOKEN"}
    into = checkout(app.url, **private, path="/outputs/files/a/b")
    wrong = checkout(app.url, username="me", password="secret:WRONG")
    floor.vault.set("WRONG", "not-the-password")
    run = floor.submit(
        flow(
            app=checkout(app.url, **private),
            look=looking("app", LOOK),
            into=into,
            below=looking("into", f"cd a/b\n{LOOK}"),
            wrong=wrong,
            nobody=checkout(app.url),
            nothing=checkout(f"{git_server.url}/team/none.git", **private),
        )
    )
    await floor.finish(run)
    phases = floor.phases(run)
    assert {phases[name] for name in ("app", "look", "into", "below")} == {"Succeeded"}, await told(floor, run)
    messages = {name: job.message for name, job in floor.jobs(run).items()}
    assert messages["app"] == f"branch main at {app.head()} is in /outputs/files"
    assert "refuses the user name or the password" in messages["wrong"]
    assert "asks for a user name and a password: set `with.password`" in messages["nobody"]
    assert "there is no repository at" in messages["nothing"]
    assert "s3cret" not in await told(floor, run) + "\n".join(floor.db.read.iterdump())


async def test_a_hostile_repository_is_harmless(floor: Floor, git_server: GitServer, tmp_path: Path) -> None:
    floor.vault.set("TOKEN", LOGIN.partition(":")[2])
    bait = git_server.repository("bait", {"x": "x"}, login=LOGIN)
    with serve_git(tmp_path / "other", bridge_address()) as other:
        elsewhere = other.repository("bait", {"x": "x"}, login=LOGIN)
        addresses = {
            "file": "file:///run/appliance",
            "path": "/run/appliance",
            "ext": "ext::sh -c touch% /outputs/files/owned",
            "dash": "--upload-pack=touch /outputs/files/owned",
            "ssh": "ssh://-oProxyCommand=touch%20owned/x",
            "elsewhere": elsewhere.url,
        }
        jobs = {}
        for name, url in addresses.items():
            repository = git_server.repository(name, {"x": "x"}, login=LOGIN)
            repository.commit({}, modules={"sub": bait})
            relative(repository, "sub", url)
            jobs[name] = checkout(repository.url, username="me", password="secret:TOKEN")
        large = git_server.repository("large", {"x": "x"}, login=LOGIN)
        large.commit_lfs("large.bin", b"large")
        large.commit({".lfsconfig": f"[lfs]\n\turl = {elsewhere.url}/info/lfs\n"})
        jobs["large"] = checkout(large.url, username="me", password="secret:TOKEN")
        links = git_server.repository("links", {"x": "x"})
        links.commit({"hooks/post-checkout": "#!/bin/sh\ntouch /outputs/files/owned\n"}, executable=True)
        links.commit({}, links={"out": "/etc/passwd", "up": "../../..", "git": ".git"})
        jobs["links"] = checkout(links.url)
        jobs["look"] = looking("links", "test -L out && test -L up && test -f x && ! test -e owned")
        run = floor.submit(flow(**jobs))
        await floor.finish(run)
        words = await told(floor, run)
        refused = [*addresses, "large"]
        assert {name: floor.phases(run)[name] for name in refused} == dict.fromkeys(refused, "Failed"), words
        assert {floor.phases(run)[name] for name in ("links", "look")} == {"Succeeded"}, words
        assert "protocol that a job may not use" in floor.jobs(run)["file"].message
        assert f"this job's are for {git_server.url} only" in floor.jobs(run)["large"].message
        assert other.requests
        assert all(answer.endswith(" 401") for answer in other.requests), other.requests
    assert "s3cret" not in words
    assert await floor.engine.list() == []
    assert holding(tmp_path, "s3cret") == []


async def test_refs_mean_what_they_say(floor: Floor, git_server: GitServer) -> None:
    code = git_server.repository("code", {"file": "one"})
    first = code.head()
    code.tag("v1", message="annotated")
    code.commit({"file": "two"})
    code.branch("a/b")
    code.commit({"file": "three"})
    code.branch(first[:8], "main")  # a branch that looks like a commit is a branch
    empty = git_server.repository("empty")
    wanted = {
        "main": "",
        "tag": "v1",
        "branch": "a/b",
        "full": first,
        "looks": first[:8],
        "short": code.head("a/b")[:9],
    }
    jobs: dict[str, Any] = {name: checkout(code.url, **({"ref": ref} if ref else {})) for name, ref in wanted.items()}
    for name in wanted:
        jobs[f"look-{name}"] = {**looking(name, "cat file")}
    jobs["empty"] = checkout(empty.url)
    jobs["gone"] = checkout(code.url, ref="0" * 40)
    run = floor.submit(flow(**jobs))
    await floor.finish(run)
    found = {name: await floor.log(run, f"look-{name}") for name in wanted}
    expected = {"main": "three", "tag": "one", "branch": "two", "full": "one", "looks": "three", "short": "two"}
    assert found == expected, await told(floor, run)
    assert "has no commit on its default branch" in floor.jobs(run)["empty"].message
    assert f"no commit {'0' * 40} in" in floor.jobs(run)["gone"].message


async def test_jobs_behind_a_branch_run_when_it_has_moved(floor: Floor, git_server: GitServer) -> None:
    code = git_server.repository("code", {"file": "one"})
    document = flow(code=checkout(code.url), build={**looking("code", "cat file"), "outputs": {"made": VOLUME}})
    runs_ = []
    for text in ("", "", "two"):
        if text:
            code.commit({"file": text})
        runs_.append(floor.submit(document))
        await floor.finish(runs_[-1])
    first, second, third = (floor.jobs(run) for run in runs_)
    assert [jobs["code"].reused for jobs in (first, second, third)] == ["", "", ""], await told(floor, runs_[1])
    assert [jobs["build"].reused for jobs in (first, second, third)] == ["", "flow.1/build", ""]
    assert first["code"].commit_id == second["code"].commit_id == code.git("rev-parse", "main~1")
    assert third["code"].commit_id == code.head()
    assert await floor.log(runs_[2], "build") == "two"


# s3-download@v1


@pytest.fixture
def bucket(docker_engine: str) -> Iterator[Bucket]:
    with serve_s3(bridge_address()) as found:
        yield found


async def test_a_bucket_becomes_a_dataset_version(floor: Floor, bucket: Bucket, s3_image: str, tmp_path: Path) -> None:
    large = random.Random(4).randbytes(20 << 20)
    bucket.put({"data/large.bin": large, "data/a b/ü.txt": b"text", "data/../up": b"", "other": b"x"})
    floor.vault.set("KEY", bucket.secret)
    floor.datasets.create("digits")
    document = {
        "url": f"s3://{bucket.name}/data/",
        "access-key": bucket.access_key,
        "secret-access-key": "secret:KEY",
        "endpoint": bucket.endpoint,
    }
    output = {"digits": {"type": "dataset", "with": {"ref": "digits"}}}
    run = floor.submit(
        flow(
            fetch={"uses": "s3-download@v1", "with": document, "outputs": output},
            wrong={"uses": "s3-download@v1", "with": {**document, "url": "s3://nobodys"}, "outputs": {"v": VOLUME}},
        )
    )
    await floor.finish(run)
    assert floor.phases(run) == {"fetch": "Succeeded", "wrong": "Failed"}, await told(floor, run)
    content = await floor.datasets.path(floor.datasets.resolve("digits"))
    found = {str(path.relative_to(content)): path.read_bytes() for path in content.rglob("*") if path.is_file()}
    assert found == {"large.bin": large, "a b/ü.txt": b"text"}
    assert "1 were left out" in floor.jobs(run)["fetch"].message
    assert floor.jobs(run)["wrong"].message == "there is no bucket nobodys (NoSuchBucket)"
    assert bucket.secret not in await told(floor, run)
    assert await floor.engine.list() == []
    assert holding(tmp_path, bucket.secret) == []


# create-model@v1


async def test_a_model_is_registered_once_whatever_happens_to_the_daemon(floor: Floor) -> None:
    floor.datasets.create("weights")
    make = script("echo w > /outputs/m/w", outputs={"m": {"type": "dataset", "with": {"ref": "weights"}}})
    register = {
        "uses": "create-model@v1",
        "with": {"name": "digits", "type": "tensorflow"},
        "needs": ["make"],
        "inputs": {"model": "make.outputs.m"},
        "outputs": {"model-id": {"type": "string"}},
    }
    use = script("cat /inputs/id", "register", inputs={"id": "register.outputs.model-id"})
    run = floor.submit(flow(make=make, register=register, use=use))
    life_s = 0.2
    while runs.get(floor.db.read, run.id).finished is None:
        assert life_s < 120, await told(floor, run)
        await asyncio.sleep(life_s)
        await floor.drop()
        floor.begin()
        life_s *= 1.3  # a busy machine does nothing at all in a short one
    (model,) = floor.models.every()
    assert (await floor.log(run, "use"), model.type) == (model.id, "Tensorflow"), await told(floor, run)


# notebook@v1


def cell(source: str, *tags: str) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def notebook(*cells: dict[str, Any], kernel: str = "python3", language: str = "python") -> str:
    spec = {"name": kernel, "display_name": kernel, "language": language}
    return json.dumps({"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 4})


TRAIN = notebook(
    {"cell_type": "markdown", "metadata": {}, "source": "# Training"},
    cell("lr, words, flag = 1, [], None", "parameters"),
    cell("print('lr is', lr)\nopen('/outputs/score', 'w').write(f'{lr} {words} {flag}')"),
    cell("import os; os.getcwd()"),
)
BROKEN = notebook(cell("print('before')"), cell("# why\nraise ValueError('no data')"), cell("print('never')"))


def executing(*, path: str = NOTEBOOK, **fields: Any) -> dict[str, Any]:
    return {
        "uses": "notebook@v1",
        "with": {"notebook": path, **fields},
        "needs": ["code"],
        "inputs": {"code": "code.outputs.files"},
        "outputs": {"files": VOLUME},
    }


async def test_notebooks_run_with_parameters(floor: Floor, git_server: GitServer, notebook_image: str) -> None:
    files = {
        "train.ipynb": TRAIN,
        "broken.ipynb": BROKEN,
        "r.ipynb": notebook(cell("x <- 1"), kernel="ir", language="R"),
        "text.ipynb": "not a notebook",
    }
    code = git_server.repository("notebooks", files)
    train = executing(parameters={"lr": 0.25, "words": ["a", 'b"'], "flag": True})
    train["outputs"]["score"] = {"type": "string"}
    train["with"]["path"] = "/outputs/files/done.ipynb"
    run = floor.submit(
        flow(
            code=checkout(code.url),
            train=train,
            look=looking("train", "cat done.ipynb"),
            broken=executing(path="/inputs/code/broken.ipynb"),
            foreign=executing(path="/inputs/code/r.ipynb"),
            text=executing(path="/inputs/code/text.ipynb"),
            missing=executing(path="/inputs/code/missing.ipynb"),
            no_jupyter=executing(image=BASE),
        )
    )
    await floor.finish(run)
    jobs = floor.jobs(run)
    assert jobs["train"].phase == "Succeeded", await told(floor, run)
    assert jobs["train"].outputs["score"]["value"] == "0.25 ['a', 'b\"'] True"
    assert "lr is 0.25" in await floor.log(run, "train")
    assert "appliance: cell 3 of 4: print('lr is', lr)" in await floor.log(run, "train")
    done = json.loads(await floor.log(run, "look"))
    assert [one["metadata"].get("tags") for one in done["cells"]] == [
        None,
        ["parameters"],
        ["injected-parameters"],
        None,
        None,
    ]
    assert done["metadata"]["papermill"]["parameters"] == {"lr": 0.25, "words": ["a", 'b"'], "flag": True}
    assert {one["metadata"]["papermill"]["status"] for one in done["cells"]} == {"completed"}
    assert "/inputs/code" in json.dumps(done["cells"][-1]["outputs"])
    messages = {name: job.message for name, job in jobs.items() if job.phase == "Failed"}
    assert messages == {
        "broken": "cell 2 (raise ValueError('no data')): ValueError: no data",
        "foreign": "no kernel 'ir' in this image, there is python3",
        "text": messages["text"],
        "missing": "there is no /inputs/code/missing.ipynb",
        "no_jupyter": "this image cannot run notebooks: its Python has no nbclient",
    }
    assert messages["text"].startswith("/inputs/code/text.ipynb is not a notebook: ")


@pytest.mark.parametrize("how", ["fails", "is stopped"])
def test_a_notebook_that_does_not_end_keeps_what_it_has(notebook_image: str, tmp_path: Path, how: str) -> None:
    """The program alone, since a job's volumes go with it."""
    last = "raise SystemExit('enough')" if how == "fails" else "import time; time.sleep(300)"
    for name in ("inputs", "outputs", "private"):
        (tmp_path / name).mkdir()
    (tmp_path / "inputs" / "n.ipynb").write_text(notebook(cell("print('kept')"), cell(last), cell("1")))
    request = {"notebook": "/inputs/n.ipynb", "output": "/outputs/n.ipynb", "parameters": {}, "kernel": ""}
    for name, text in files_of("run_notebook", request, folder=INSIDE).items():
        (tmp_path / "private" / name).write_text(text)
    mounts = {"inputs": "/inputs", "outputs": "/outputs", "private": "/run/appliance"}
    argv = ["docker", "run", "--rm", "--init", "--name", f"appliance-test-{tmp_path.name}-{os.getpid()}"]
    argv += [word for name, target in mounts.items() for word in ("-v", f"{tmp_path / name}:{target}")]
    argv += ["--entrypoint", "python3", notebook_image, "/run/appliance/run_notebook.py"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if how == "is stopped" and "cell 2 of 3" in line:
                subprocess.run(["docker", "kill", "-s", "TERM", argv[5]], capture_output=True, timeout=60, check=True)
        assert process.wait(60) == (1 if how == "fails" else 143)
    found = json.loads((tmp_path / "outputs" / "n.ipynb").read_text())
    assert "kept" in json.dumps(found["cells"][0]["outputs"])
    states = [one["metadata"]["papermill"]["status"] for one in found["cells"]]
    assert states == ["completed", "failed" if how == "fails" else "running", "pending"]
    words = "cell 2 (raise SystemExit('enough')): SystemExit: enough" if how == "fails" else "stopped by SIGTERM"
    assert lines[-1] == f"appliance: {words}"
