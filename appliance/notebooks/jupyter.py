"""How Jupyter is started behind the front door, and how it is asked whether it answers.

Every setting is in one table, given as flags to the appliance's own command and as configuration files to a command of
the user's, so that any `jupyter lab` or `jupyter notebook` answers under the notebook's own path. That path keeps the
cookies of two notebooks on one host apart. The token travels in the environment: arguments are seen by every process.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2

PORT = 8888
ROOT = "/notebooks"
CONFIG_DIR = "/etc/appliance/jupyter"
PROBE_TIMEOUT_S = 3.0
NOT_FOUND = 127
"""Exit code of a command that the image does not have."""


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
            "shutdown_no_activity_timeout": 0,
        },
        "MappingKernelManager": {"cull_idle_timeout": 0},
        "TerminalManager": {"cull_inactive_timeout": 0},
    }


def command(name: str) -> list[str]:
    flags = [f"--{group}.{key}={value}" for group, traits in settings(name).items() for key, value in traits.items()]
    return ["jupyter", "lab", *flags]


def config_files(name: str) -> dict[str, str]:
    """File name -> content, for CONFIG_DIR: the same settings for Jupyter Server and for the classic Notebook."""
    traits = settings(name)
    classic = {**traits["ServerApp"], "notebook_dir": ROOT}
    del classic["root_dir"]
    return {
        "jupyter_server_config.json": json.dumps(traits, indent=1),
        "jupyter_notebook_config.json": json.dumps({"NotebookApp": classic}, indent=1),
    }


async def ask(client: httpx2.AsyncClient, port: int, name: str) -> str:
    """Why the Jupyter on 127.0.0.1:`port` does not serve this notebook yet; empty: it does."""
    url = f"http://127.0.0.1:{port}{base_url(name)}api"
    try:
        async with client.stream("GET", url, timeout=PROBE_TIMEOUT_S, follow_redirects=False) as answer:
            status = answer.status_code
    except httpx2.TimeoutException:
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
