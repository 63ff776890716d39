"""How Jupyter is started behind the front door, and how it is asked whether it answers.

Every setting is in one table, given as flags to the appliance's own command and as configuration files to a command of
the user's, so that any `jupyter lab` or `jupyter notebook` answers under the notebook's own path. That path keeps the
cookies of two notebooks on one host apart. The token travels in the environment: arguments are seen by every process.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2

from appliance.notebooks import panel

PORT = 8888
ROOT = "/notebooks"
CONFIG_DIR = "/etc/appliance/jupyter"
KEPT = "/etc/appliance/lab"
"""Of the directory beside the workspace: what is here outlives the session (notebooks/beside.py)."""
COOKIES = f"{KEPT}/cookie-secret"
PROBE_TIMEOUT_S = 3.0
INSIDE = Path(__file__).with_name("inside")
"""Files of ours that Jupyter itself reads or imports."""
NOT_FOUND = 127
"""Exit code of a command that the image does not have."""


EXTENSIONS = ("appliance_saved", "appliance_jupyter")
"""Modules in INSIDE that Jupyter Server loads."""


def base_url(name: str) -> str:
    """Where notebook `name` lives on the front door. Resource names need no quoting in a URL."""
    return f"/notebooks/{name}/"


def settings(name: str) -> dict[str, dict[str, Any]]:
    """Jupyter's traits by class.

    `allow_remote_access` ends the check of the Host header, which would refuse every name of the machine but
    localhost; the token guards each request instead. The origin check stays as it is: same origin only.
    """
    return {
        "ServerApp": {
            "ip": "0.0.0.0",
            "port": PORT,
            "port_retries": 0,
            "base_url": base_url(name),
            "root_dir": ROOT,
            "allow_root": True,
            "open_browser": False,
            "allow_remote_access": True,
            "trust_xheaders": True,
            "terminals_enabled": True,
            # beside what was open: a browser that was let in before is let in by the next session too
            "cookie_secret_file": COOKIES,
            "shutdown_no_activity_timeout": 0,
        },
        "MappingKernelManager": {"cull_idle_timeout": 0},
        "TerminalManager": {"cull_inactive_timeout": 0},
    }


def documents() -> dict[str, dict[str, Any]]:
    """Where jupyter-collaboration and what it is made of keep what an open page knows its document by, by class.

    A page that stays open over a new session asks for its document by the id of the file, with a history that the
    server must know, or what is typed in it reaches no file. The three belong together. Only in the configuration
    files: on a command line, Jupyter warns of classes that the image does not have.
    """
    return {
        "BaseFileIdManager": {"db_path": f"{KEPT}/file-ids.db"},
        "SQLiteYStore": {"db_path": f"{KEPT}/documents.db"},
        "YDocExtension": {"session_store_path": f"{KEPT}/document-sessions.json"},
    }


def command(name: str) -> list[str]:
    flags = [f"--{group}.{key}={value}" for group, traits in settings(name).items() for key, value in traits.items()]
    return ["jupyter", "lab", *flags]


def config_files(name: str) -> dict[str, str]:
    """Path -> content, below CONFIG_DIR: the same settings for Jupyter Server and for the classic Notebook.

    What Jupyter runs of ours is in it too; of two files of one name that ends with `.py` comes before `.json`.
    """
    traits = settings(name)
    server = {**traits["ServerApp"], "jpserver_extensions": dict.fromkeys(EXTENSIONS, True)}
    lab = {"extra_labextensions_path": [f"{CONFIG_DIR}/{panel.FOLDER}"]}
    classic = {**traits["ServerApp"], "notebook_dir": ROOT}
    del classic["root_dir"]
    return {
        "jupyter_server_config.json": json.dumps(
            {**traits, **documents(), "ServerApp": server, "LabServerApp": lab}, indent=1
        ),
        "jupyter_notebook_config.json": json.dumps({"NotebookApp": classic}, indent=1),
        **panel.files(),
        **{file.name: file.read_text(encoding="utf-8") for file in INSIDE.glob("*.py") if file.stem != "__init__"},
    }


async def ask(client: httpx2.AsyncClient, port: int, name: str) -> str:
    """Why the Jupyter on 127.0.0.1:`port` does not serve this notebook yet; empty: it does."""
    url = f"http://127.0.0.1:{port}{base_url(name)}api"
    try:
        # one that drips its answer is within the client's own time-out, which is for each read
        async with (
            asyncio.timeout(PROBE_TIMEOUT_S),
            client.stream("GET", url, timeout=PROBE_TIMEOUT_S, follow_redirects=False) as answer,
        ):
            status = answer.status_code
    except (TimeoutError, httpx2.TimeoutException):
        return f"no answer within {PROBE_TIMEOUT_S:.0f} s"
    except httpx2.TransportError:
        return "its port is not open yet"
    if status == 404:
        return f"it answers, but not under {base_url(name)}; let its command keep Jupyter's base_url setting"
    return f"it answers with status {status}" if status >= 500 else ""


def closed_by_user(exit_code: int | None, tail: str) -> bool:
    """The user chose File, Shut Down in JupyterLab: the server ended well, and says that it was asked to."""
    return exit_code == 0 and "Shutting down on /api/shutdown request" in tail


def advice(exit_code: int | None, tail: str) -> str:
    """The next step after an ending that has one; else empty."""
    if exit_code == NOT_FOUND or "jupyter-lab` not found" in tail:
        return "the image has no JupyterLab: name another image, or install jupyterlab in this one"
    return ""
