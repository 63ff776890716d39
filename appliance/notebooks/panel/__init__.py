"""The history in JupyterLab's side bar: an extension of JupyterLab, put beside Jupyter's settings in each session.

JupyterLab 4 and Notebook 7 load it as it is, whatever image they come from; another one does not look at it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

EXTENSION = "@appliance/history"
FOLDER = "labextensions"


def files() -> dict[str, str]:
    """Path -> content. The script's name holds its digest: a browser would keep an old one otherwise."""
    script = Path(__file__).with_name("panel.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).hexdigest()[:16]
    load = f"static/remoteEntry.{digest}.js"
    about = {
        "name": EXTENSION,
        "version": f"1.0.0-{digest}",
        "description": "The history of the workspace, beside the file that is open.",
        "license": "Apache-2.0",
        "jupyterlab": {
            "extension": True,
            "_build": {"load": load, "extension": "./extension", "style": "./style"},
        },
    }
    return {
        f"{FOLDER}/{EXTENSION}/package.json": json.dumps(about, indent=1),
        f"{FOLDER}/{EXTENSION}/{load}": script,
    }
