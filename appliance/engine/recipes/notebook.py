"""`appliance/notebook`: JupyterLab whose cells run on the server, so their output survives a closed tab.

jupyter-server-nbmodel replaces the browser's cell executor as soon as it is installed; jupyter-collaboration holds
the document on the server, where the output is written. The settings below lie in /etc/jupyter, which Jupyter reads
whatever Python it runs in.
"""

from __future__ import annotations

import json

from appliance.engine.recipes.base import BASE
from appliance.engine.recipes.recipe import Recipe

_SERVER = {
    "ServerApp": {"terminado_settings": {"shell_command": ["/bin/bash"]}},
    "YDocExtension": {
        "server_side_execution": True,
        # A document that is dropped a minute after its last tab would lose the output of the cells that still run.
        "document_cleanup_delay": None,
        "session_store_path": "/tmp/jupyter-collaboration-sessions.json",
    },
    # Beside the workspace, so that neither its listing nor its history is filled with it.
    "SQLiteYStore": {"db_path": "/tmp/jupyter-collaboration.db"},
}
_LAB = {
    "LabApp": {
        "news_url": None,
        "check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "extension_manager": "readonly",
    }
}
_DEFAULTS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/extensionmanager-extension:plugin": {"enabled": False},
}

NOTEBOOK = Recipe(
    ref="appliance/notebook:latest",
    parent=BASE.ref,
    python=(
        "jupyterlab>=4.5,<5",
        "ipykernel>=7",
        "jupyter-collaboration>=5,<6",
        "jupyter-server-nbmodel>=0.2.9,<0.4",
        "matplotlib",
        "numpy",
        "pandas",
        "scikit-learn",
    ),
    # Its import takes two thirds of the server's start: it builds grammars to check addresses in event schemas.
    # jsonschema does without it, and checks them with rfc3986-validator.
    without=("rfc3987-syntax",),
    trim=("matplotlib", "numpy", "pandas", "pyarrow", "scipy", "sklearn"),
    files={
        "/etc/jupyter/jupyter_server_config.json": json.dumps(_SERVER, indent=2) + "\n",
        "/etc/jupyter/jupyter_lab_config.json": json.dumps(_LAB, indent=2) + "\n",
        "/etc/jupyter/labconfig/default_setting_overrides.json": json.dumps(_DEFAULTS, indent=2) + "\n",
    },
    folders=("/notebooks", "/storage"),
    env={"SHELL": "/bin/bash"},
    command=("jupyter", "lab", "--allow-root", "--ip=0.0.0.0", "--port=8888", "--no-browser"),
    ports=(8888,),
    workdir="/notebooks",
    check=("python3", "-c", "import jupyterlab, ipykernel, jupyter_server_ydoc, jupyter_server_nbmodel, sklearn"),
)
