"""Real Gradient deployment files through a real daemon: the valid ones are planned, the others refused with their
place, and some run, with only their images, ids and repository addresses exchanged. The table at the end tells which.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import transfer
from tests.support import model_server
from tests.support.daemon import RunningDaemon, eventually
from tests.support.git import GitServer, bridge_address, serve_git
from tests.support.serving import fetch, ready

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "deployments"
INVALID = {
    "gradient-ai--Deployments--fashion-mnist-deployment-spec-8cd3573.yaml": "models",
    "gradient-ai--stable-diffusion-webui--app-0ba6165.yaml": "integrations",
    "Jameshskelton--pspace-deploy-huggingface-w-actions--app.yaml": "image",
}
"""The ones that a user got wrong -> the field that has to be named."""
FILES = sorted(path.name for path in CORPUS.glob("*") if path.suffix in (".yaml", ".json", ".jsonc"))
VALID = [name for name in FILES if name not in INVALID]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.docker,
    pytest.mark.images,
    pytest.mark.haproxy,
    pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of Gradient files is not beside the checkout"),
]

STAND_IN = """
FROM appliance/base
COPY model_server.py /opt/stand-in/
COPY program /opt/stand-in/
RUN chmod 755 /opt/stand-in/program && mkdir -p /workspace /opt/stand-in/bin \\
 && for name in /opt/stand-in/bin/python /opt/stand-in/bin/streamlit /workspace/entrypoint.sh; do \\
      cp /opt/stand-in/program $name && chmod 755 $name; done \\
 && printf '#!/bin/sh\\necho stand-in pip: "$@"\\n' > /opt/stand-in/bin/pip && chmod 755 /opt/stand-in/bin/pip
ENV PORTS=80,3000,5000,7860,8000,8008,8501,9090
ENV PATH=/opt/stand-in/bin:$PATH
CMD ["/opt/stand-in/program"]
"""
"""Whatever program a file starts, it is the small model server, which tells how it was started."""
PROGRAM = '#!/bin/sh\nexec python3 /opt/stand-in/model_server.py "$(basename "$0")" "$@"\n'


@dataclass
class Scene:
    daemon: RunningDaemon
    git: GitServer
    image: str
    rows: list[str] = field(default_factory=list)

    def model(self, name: str, files: Mapping[str, str]) -> str:
        """Id of a model that holds these files."""
        self.daemon.client.apply(json.dumps({"kind": "dataset", "name": name}), "a test")
        with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
            for path, content in files.items():
                Path(folder, path).write_text(content)
            ref = str(transfer.put(self.daemon.client, name, Path(folder), tags=[])["ref"])
        return str(self.daemon.client.create_model(name, ref, "Custom")["id"])

    def run(self, file: str, name: str, replaced: Mapping[str, str] | None = None) -> Running:
        """Apply the file through the command line and wait until it serves. `name` is what it has to be called."""
        text = (CORPUS / file).read_text(encoding="utf-8")
        image = re.search(r'^[ "]*image"?: *"?([^\s",]+)', text, re.MULTILINE)
        assert image, f"{file} names an image"
        every = {image[1]: self.image, **(replaced or {})}
        for old, new in every.items():
            assert old in text, f"{file} has no {old}"
            text = text.replace(old, new)
        with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
            path = Path(folder) / f"given{Path(file).suffix}"
            path.write_text(text)
            named = [] if re.search(r'^(name:| *"name":)', text, re.MULTILINE) else ["--name", name]
            done = self.daemon.cli("apply", "-f", str(path), *named)
        assert done.returncode == 0, done.stdout + done.stderr
        self.rows.append(f"{file:84} {', '.join(every)}")
        return Running(self.daemon, name, done.stderr)


@dataclass(frozen=True)
class Running:
    daemon: RunningDaemon
    name: str
    said: str
    """What the command line said beside its table."""

    def ready(self) -> Running:
        ready(self.daemon, self.name, replicas=1, within_s=60)
        return self

    def get(self, path: str) -> tuple[int, str]:
        status, body = fetch(self.daemon, f"/deployments/{self.name}{path}")
        return status, body.decode()

    def json(self, path: str) -> Any:
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def file(self, path: str) -> str:
        status, body = self.get(f"/file?path={path}")
        assert status == 200, body
        return body

    def delete(self) -> None:
        """Once it is gone."""
        self.daemon.client.delete("deployments", self.name)

        def gone() -> bool:
            return self.name not in [item["name"] for item in self.daemon.client.items("deployments")]

        eventually(gone, within_s=60, what=f"{self.name} gone")


@pytest.fixture(scope="module")
def scene(
    daemon: RunningDaemon,
    base_image: str,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("deployments")
    (folder / "Dockerfile").write_text(STAND_IN)
    (folder / "program").write_text(PROGRAM)
    (folder / "model_server.py").write_text(Path(model_server.__file__).read_text())
    image = f"appliance-test-served-{secrets.token_hex(4)}:latest"
    argv = ["docker", "build", "-q", "-t", image, str(folder)]
    try:
        built = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        assert built.returncode == 0, built.stderr
        with serve_git(folder / "repositories", bridge_address()) as git:
            made = Scene(daemon, git, image)
            yield made
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print("\n" + "\n".join([f"{'file':84} exchanged", *made.rows, f"{len(made.rows)} files ran"]))
    finally:
        subprocess.run(["docker", "image", "rm", "-f", image], capture_output=True, timeout=60, check=False)


def test_every_valid_file_is_planned_and_nothing_is_changed(daemon: RunningDaemon) -> None:
    assert len(VALID) == 26
    before = daemon.client.items("deployments")
    for file in VALID:
        done = daemon.cli("apply", "--dry-run", "-f", str(CORPUS / file))
        assert done.returncode == 0, f"{file}: {done.stdout}{done.stderr}"
        assert "(dry run)" in done.stdout, done.stdout
        assert "Traceback" not in done.stderr
    assert daemon.client.items("deployments") == before


@pytest.mark.parametrize(("file", "fault"), INVALID.items())
def test_a_file_with_a_mistake_is_refused_with_its_place(daemon: RunningDaemon, file: str, fault: str) -> None:
    done = daemon.cli("apply", "--dry-run", "-f", str(CORPUS / file))
    assert done.returncode == 1, done.stdout
    assert re.search(rf"{re.escape(file)}:\d+(:\d+)?: .*{fault}", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Paperspace--FastAPI-Template-App--paperspace.yaml", "my-fastapi-app"),
        ("Paperspace--Flask-Template-App--paperspace.yaml", "my-flask-app"),
        ("Paperspace--app-template--paperspace-47a9505.json", "hello-world"),
        ("dte--serge--app.yaml", "gradient-ai-serge"),
        ("gradient-ai--Open-Assistant--app.yaml", "gradient-ai-open-assistant"),
        ("gradient-ai--Whisper-AutoCaption--spec.yaml", "whisper"),
    ],
)
def test_files_whose_image_has_a_program_of_its_own(scene: Scene, file: str, name: str) -> None:
    """Both dialects, JSON, probes of all three kinds, no port, no name, a name with a slash, autoscaling."""
    running = scene.run(file, name).ready()
    assert running.json("/argv") == ["program"]
    assert running.get("/some/path?a=b")[0] == 200
    running.delete()


def test_a_model_and_a_command_that_names_it(scene: Scene) -> None:
    model = scene.model("stable-diffusion", {"v1-5-pruned-emaonly.ckpt": "weights"})
    running = scene.run(
        "AicademyHK--stable-diffusion-openday--spec.yaml", "stable-diffusion", {"id: mo4a5gkc13ccrl": f"id: {model}"}
    ).ready()
    argv = running.json("/argv")
    assert argv[:3] == ["python", "launch.py", "--share"]
    assert argv[-2:] == ["--ckpt", "../opt/mo4a5gkc13ccrl/v1-5-pruned-emaonly.ckpt"]
    assert running.file("/opt/mo4a5gkc13ccrl/v1-5-pruned-emaonly.ckpt") == "weights"
    env = running.json("/env")
    assert (env["MODEL_DIR"], env["MODEL_NAME"]) == ("/opt/mo4a5gkc13ccrl", "stable-diffusion-classic")
    running.delete()


def test_a_model_at_its_path(scene: Scene) -> None:
    model = scene.model("fashion-mnist", {"model.onnx": "layers"})
    replaced = {"mosdro1wgjmt353": model}
    running = scene.run("gradient-ai--onnx-deployment--deployment-spec.yaml", "onnx", replaced).ready()
    assert running.file("/opt/models/fashion-mnist/model.onnx") == "layers"
    running.delete()


def test_a_language_model_with_a_script_of_its_image(scene: Scene) -> None:
    running = scene.run("mvamsiDO--mistral7b-vllm-paperspace--paperspace.json", "asdA6k").ready()
    argv = ["entrypoint.sh", "--host", "0.0.0.0", "--model", "mistralai/Mistral-7B-Instruct-v0.2"]
    assert running.json("/argv") == argv
    assert running.json("/env")["HF_TOKEN"] == "<HF Read Access token>"
    assert running.json("/v1/models")["data"][0]["object"] == "model"
    running.delete()


def test_comments_in_json(scene: Scene) -> None:
    running = scene.run("Paperspace--stable-diffusion-app--paperspace.jsonc", "stable-diffusion-webui").ready()
    assert running.json("/argv")[:2] == ["python", "webui.py"]
    running.delete()


def test_secrets_of_a_file_that_is_disabled_until_somebody_enables_it(scene: Scene) -> None:
    file = "stianlaa--byte-barometer--paperspace.json"
    running = scene.run(file, "byte-barometer")
    scene.daemon.phase("deployments", "byte-barometer", "Disabled")
    assert scene.daemon.running_containers("byte-barometer") == []
    for name in ("HUGGINGFACE_API_KEY", "OPENAI_API_KEY", "PINECONE_API_KEY"):
        scene.daemon.client.put_secret(name, f"the value of {name}")
    running = scene.run(file, "byte-barometer", {'"enabled": false': '"enabled": true'}).ready()
    assert running.json("/env")["OPENAI_API_KEY"] == "the value of OPENAI_API_KEY"
    running.delete()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Paperspace--FastAPI-Hugging-Face-Template-App--paperspace.yaml", "my-fastapi-hf-app"),
        ("Paperspace--FastAPI-Hugging-Face-Template-App--paperspace-095a232.yaml", "my-fastapi-hf-app"),
        ("nmb-paperspace--FastAPI-Hugging-Face-Template-App--paperspace.yaml", "mpt-125m-app"),
    ],
)
def test_weights_out_of_a_repository_with_large_files(scene: Scene, file: str, name: str) -> None:
    """git-lfs, with a path and without one: every replica finds the very bytes, not a pointer to them."""
    url = re.search(r"https://huggingface.co/\S+", (CORPUS / file).read_text())
    assert url
    code = scene.git.repository(f"served/{secrets.token_hex(4)}", {"config.json": "layers: 2"})
    code.commit_lfs("model.bin", b"weights " * 10_000)
    running = scene.run(file, name, {url[0]: code.url}).ready()
    folder = f"/opt/integrations/{url[0].rpartition('/')[2]}"
    assert running.file(f"{folder}/config.json") == "layers: 2"
    assert running.file(f"{folder}/model.bin") == "weights " * 10_000
    running.delete()


def test_a_program_out_of_a_repository_beside_a_model(scene: Scene) -> None:
    """`repositories`: cloned into a new version of a dataset, mounted, and what the command starts."""
    code = scene.git.repository("joshua/resnet", {"app.py": "the program", "requirements.txt": "streamlit"})
    scene.daemon.client.apply(json.dumps({"kind": "dataset", "name": "resnet-code"}), "a test")
    model = scene.model("resnet", {"resnet.pth": "weights"})
    replaced = {
        "mo6l0m1nq4zqrp": model,
        "dshxxif865nmrg4": "resnet-code",
        "https://github.com/joshua-paperspace/ResNet-PyTorch-Example": code.url,
    }
    running = scene.run("joshua-paperspace--ResNet-PyTorch-Example--deployment.yaml", "resnet-app", replaced).ready()
    assert running.json("/argv") == ["streamlit", "run", "app.py"]
    assert running.file("/opt/repos/repo/app.py") == "the program"
    assert running.file("/opt/models/resnet.pth") == "weights"
    assert len(scene.daemon.client.versions("resnet-code")) == 1
    running.delete()
