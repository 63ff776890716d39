"""What `notebook@v1` executes, with which parameters, and where the executed file goes. Pure.

`inside.run_notebook` does it. Parameters are written into the executed notebook, so `secret:NAME` means nothing among
them: a secret comes to a notebook as a variable of the job.
"""

from __future__ import annotations

import keyword
from pathlib import Path
from posixpath import basename, normpath

from appliance.errors import UsageError
from appliance.fetching import programs
from appliance.spec.models import Job, NotebookAction
from appliance.workflows.steps.targets import target_of

SUFFIX = ".ipynb"
PROGRAM = "run_notebook"
INSIDE = Path(__file__).with_name("inside")


def files_of(action: NotebookAction, job: Job) -> dict[str, str]:
    """File name -> content for the private mount. Raises UsageError that says what is wrong with the field."""
    notebook = normpath(action.notebook)
    if not action.notebook.startswith("/") or not notebook.endswith(SUFFIX) or "\0" in notebook:
        hint = "such as /inputs/repo/train.ipynb"
        raise UsageError(f"`notebook` is not the path of a notebook in the job: {action.notebook!r}", hint=hint)
    for name in action.parameters:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(
                f"the parameter {name!r} cannot be the name of a Python variable", hint="use letters, digits and _"
            )
    request = {
        "notebook": notebook,
        "output": output_of(action, job),
        "parameters": action.parameters,
        "kernel": action.kernel,
    }
    return programs.files_of(PROGRAM, request, folder=INSIDE)


def output_of(action: NotebookAction, job: Job) -> str:
    """Path of the executed notebook: `path`, a file or a folder, else under its own name in the one output."""
    target = target_of(action.path, job, "the executed notebook")
    return target if action.path.endswith(SUFFIX) else f"{target}/{basename(action.notebook)}"
