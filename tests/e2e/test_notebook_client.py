"""A notebook through the front door, with a Jupyter client that others wrote and, where there is one, a browser."""

from __future__ import annotations

import http.client
import json
import subprocess
from pathlib import Path
from shutil import which

import pytest
from jupyter_kernel_client import JupyterKernelClient

from tests.support.daemon import RunningDaemon, eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.docker,
    pytest.mark.images,
    pytest.mark.haproxy,
    pytest.mark.filterwarnings("default"),  # of the client's own packages
]

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")


@pytest.fixture(scope="module")
def notebook(daemon: RunningDaemon, notebook_image: str) -> str:
    made = daemon.cli("notebook", "create", "lab", "--env", "GREETING=hello", timeout_s=300)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(f"{daemon.url}/notebooks/lab/lab?token=")
    return "lab"


def test_a_jupyter_client_runs_code_in_a_kernel(daemon: RunningDaemon, notebook: str) -> None:
    access = daemon.client.access(notebook)
    with JupyterKernelClient(server_url=access["base_url"].rstrip("/"), token=access["token"]) as kernel:
        answer = kernel.execute("import os\nprint(os.environ['GREETING'], os.getcwd())\n6 * 7", timeout=180)
    assert answer["status"] == "ok"
    assert answer["outputs"][0]["text"] == "hello /notebooks\n"
    assert answer["outputs"][1]["data"]["text/plain"] == "42"


def test_a_kernel_outlives_the_daemon(daemon: RunningDaemon, notebook: str) -> None:
    access = daemon.client.access(notebook)
    with JupyterKernelClient(server_url=access["base_url"].rstrip("/"), token=access["token"]) as kernel:
        kernel.execute("kept = 41", timeout=180)
        daemon.kill()
        assert kernel.execute("kept + 1", timeout=180)["outputs"][0]["data"]["text/plain"] == "42"
        daemon.start()
        assert kernel.execute("kept + 2", timeout=180)["outputs"][0]["data"]["text/plain"] == "43"
    item = daemon.phase("notebooks", notebook, "Running")
    assert daemon.client.access(notebook)["token"] == access["token"]
    assert item["generation"] == 1


def test_files_stay_over_a_stop_and_come_back_after_a_rollback(daemon: RunningDaemon, notebook: str) -> None:
    access = daemon.client.access(notebook)
    url = access["base_url"].rstrip("/")
    with JupyterKernelClient(server_url=url, token=access["token"]) as kernel:
        kernel.execute("open('note', 'w').write('good')", timeout=180)
        kept = daemon.cli("notebook", "snapshot", notebook, "-m", "good").stdout.strip()
        kernel.execute("open('note', 'w').write('bad'); open('more', 'w')", timeout=180)
    assert daemon.cli("notebook", "stop", notebook).returncode == 0
    assert daemon.cli("notebook", "start", notebook).returncode == 0
    assert daemon.cli("notebook", "rollback", notebook, kept).returncode == 0
    daemon.phase("notebooks", notebook, "Running")
    look = "import os; print(open('note').read(), os.path.exists('more'))"

    def said() -> str:
        with JupyterKernelClient(server_url=url, token=access["token"]) as kernel:
            return str(kernel.execute(look, timeout=180)["outputs"][0]["text"])

    assert said() == "good False\n"
    assert daemon.cli("notebook", "undo", notebook).returncode == 0
    daemon.phase("notebooks", notebook, "Running")
    assert said() == "bad True\n"
    causes = [row["cause"] for row in daemon.client.history(notebook)]
    assert {"start", "stop", "manual", "rollback"} <= set(causes)


def test_a_file_comes_back_below_a_running_kernel_and_a_fork_goes_its_own_way(
    daemon: RunningDaemon, notebook: str
) -> None:
    access = daemon.client.access(notebook)
    session = daemon.client.get("notebooks", notebook)["status"]["session"]
    with JupyterKernelClient(server_url=access["base_url"].rstrip("/"), token=access["token"]) as kernel:
        kernel.execute("import os; os.makedirs('d', exist_ok=True); open('d/x', 'w').write('one')", timeout=180)
        kept = daemon.cli("notebook", "snapshot", notebook).stdout.strip()
        kernel.execute("open('d/x', 'w').write('two')", timeout=180)
        assert daemon.cli("notebook", "cat", notebook, "d/x").stdout == "two"
        assert daemon.cli("notebook", "cat", notebook, "d/x", "--at", kept).stdout == "one"
        assert daemon.cli("notebook", "restore", notebook, kept, "d/x").returncode == 0
        shown = kernel.execute("print(open('d/x').read())", timeout=180)["outputs"][0]["text"]
    assert shown == "one\n"
    assert daemon.client.get("notebooks", notebook)["status"]["session"] == session, "no other session began"
    listed = json.loads(daemon.cli("notebook", "ls", notebook, "d", "--at", kept, "-o", "json").stdout)
    assert [(entry["name"], entry["size"]) for entry in listed] == [("x", 3)]

    before = daemon.client.history(notebook)[0]
    assert (before["cause"], before["subject"]) == ("restore", f"session {session}")
    assert daemon.cli("notebook", "fork", notebook, "lab2", "--at", before["id"]).returncode == 0
    assert daemon.cli("notebook", "cat", "lab2", "d/x").stdout == "two"
    assert daemon.phase("notebooks", "lab2", "Stopped")["desired"] == "stopped"
    assert daemon.cli("notebook", "fork", notebook, "lab2").returncode == 4

    assert daemon.cli("notebook", "hold", notebook, kept, "-m", "the paper").returncode == 0
    told = json.loads(daemon.cli("notebook", "prune", notebook, "--dry-run", "-o", "json").stdout)
    assert all(verdict["why"] for verdict in told["items"]), "all of it is of today"
    assert "held" in daemon.cli("notebook", "history", notebook).stdout
    assert daemon.cli("delete", "notebook", "lab2", "--confirm", "lab2").returncode == 0


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_draws_the_lab(daemon: RunningDaemon, notebook: str, tmp_path: Path) -> None:
    url = daemon.client.access(notebook)["url"]
    page = browse(url, tmp_path)
    assert "jp-LabShell" in page or "jp-Launcher" in page or "JupyterLab" in page


def browse(url: str, profile: Path) -> str:
    """The page as the browser has it once its scripts have run."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom", url,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def test_a_stopped_notebook_shows_a_page_that_waits(daemon: RunningDaemon, notebook: str) -> None:
    assert daemon.cli("notebook", "stop", notebook).returncode == 0

    def waiting() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
        connection.request("GET", f"/notebooks/{notebook}/lab", headers={"Accept": "text/html"})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status == 503 and "http-equiv" in text and "stopped" in text

    eventually(waiting, within_s=20, what="the waiting page")
    assert daemon.cli("notebook", "start", notebook).returncode == 0
