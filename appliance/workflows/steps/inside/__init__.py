"""Programs of ours that run in a job's container, each a file of its own without imports from here.

The container gets the text of the program and its request as files of a private mount: nothing of a request is in
arguments, environment or labels, where every user of the engine could read it. The last line that a program writes is
`appliance: ` and how it ended, in words; `outcome` makes the job's message from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REQUEST = "request.json"


def files_of(program: str, request: Mapping[str, Any]) -> dict[str, str]:
    """File name -> content for the private mount. `program` is the name of a module here."""
    name = f"{program}.py"
    return {name: Path(__file__).with_name(name).read_text(encoding="utf-8"), REQUEST: json.dumps(request)}
