"""The page of a history in a real browser, behind the front door, and JupyterLab with its side panel."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest
from jupyter_kernel_client import JupyterKernelClient

from tests.e2e.test_notebook_client import CHROMIUM, browse
from tests.support.daemon import RunningDaemon, eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.docker,
    pytest.mark.images,
    pytest.mark.haproxy,
    pytest.mark.filterwarnings("default"),  # of the Jupyter client's own packages
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
HOSTILE = "<img src=x onerror=document.title='broken'>"


def page_with(words: str, url: str, profile: Path) -> str:
    """The page once it has these words: a container that comes or goes meanwhile is to a browser another network, and
    what it was fetching then is lost."""

    def look() -> str:
        page = browse(url, profile)
        return page if words in page else ""

    return eventually(look, within_s=60, what=f"{words!r} on the page")


@pytest.fixture(scope="module")
def notebook(daemon: RunningDaemon, notebook_image: str) -> str:
    assert daemon.cli("notebook", "create", "paged", timeout_s=300).returncode == 0
    access = daemon.client.access("paged")
    write = f"open('a.txt', 'w').write('one'); open({HOSTILE!r}, 'w').write('<script>')"
    with JupyterKernelClient(server_url=access["base_url"].rstrip("/"), token=access["token"]) as kernel:
        kernel.execute(write, timeout=180)
        assert daemon.cli("notebook", "snapshot", "paged", "-m", f"good {HOSTILE}").returncode == 0
        kernel.execute("open('a.txt', 'w').write('two')", timeout=180)
    return "paged"


def ask(daemon: RunningDaemon, method: str, path: str, token: str, body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    try:
        connection.request(method, path, body, headers={"Authorization": f"token {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_notebooks_own_token_brings_a_file_back_and_opens_nothing_else(
    daemon: RunningDaemon, notebook: str
) -> None:
    token = daemon.client.access(notebook)["token"]
    base = f"/v1/notebooks/{notebook}"
    status, content = ask(daemon, "GET", f"{base}/history", token)
    assert status == 200
    kept = next(row["id"] for row in json.loads(content)["items"] if row["message"].startswith("good"))
    restore = json.dumps({"snapshot": kept, "path": "a.txt"})
    assert ask(daemon, "POST", f"{base}/restore", token, restore)[0] == 200
    assert ask(daemon, "GET", f"{base}/file?path=a.txt", token) == (200, b"one")
    assert ask(daemon, "GET", f"{base}/history/file?path=a.txt", token)[0] == 200
    refused = (
        ("GET", base),
        ("GET", f"{base}/access"),
        ("DELETE", base),
        ("POST", f"{base}/stop"),
        ("GET", "/v1/status"),
    )
    assert {ask(daemon, method, path, token)[0] for method, path in refused} == {401}
    assert ask(daemon, "GET", f"{base}/history", "")[0] == 401


@needs_browser
def test_a_browser_shows_the_moments_and_foreign_text_is_text(
    daemon: RunningDaemon, notebook: str, tmp_path: Path
) -> None:
    url = daemon.cli("notebook", "url", notebook, "--history").stdout.strip()
    assert url == daemon.cli("notebook", "history", notebook, "--web").stdout.strip()
    page = page_with("good &lt;img src=x onerror", url, tmp_path)
    assert "<title>paged · history</title>" in page
    assert "<img" not in page
    assert url.partition("token=")[2] not in page


@needs_browser
def test_without_a_token_it_asks_for_one_and_tells_nothing(
    daemon: RunningDaemon, notebook: str, tmp_path: Path
) -> None:
    page = page_with("needs the token", f"{daemon.url}/history/{notebook}", tmp_path)
    assert "good" not in page
    page_with("needs the token", f"{daemon.url}/history/nobody", tmp_path)


@needs_browser
def test_jupyterlab_has_the_panel(daemon: RunningDaemon, notebook: str, tmp_path: Path) -> None:
    page_with('title="History of this file"', daemon.client.access(notebook)["url"], tmp_path)
