"""What `notebook@v1` executes, with which parameters, and where the executed file goes. Pure."""

from __future__ import annotations

from posixpath import basename, normpath

from appliance.errors import UsageError
from appliance.headless import program
from appliance.headless.program import PROGRAM, SUFFIX
from appliance.spec.models import Job, NotebookAction
from appliance.workflows.steps.targets import target_of

__all__ = ["PROGRAM", "files_of", "output_of"]


def files_of(action: NotebookAction, job: Job) -> dict[str, str]:
    """File name -> content for the private mount. Raises UsageError that says what is wrong with the field."""
    notebook = normpath(action.notebook)
    if not action.notebook.startswith("/") or not notebook.endswith(SUFFIX) or "\0" in notebook:
        hint = "such as /inputs/repo/train.ipynb"
        raise UsageError(f"`notebook` is not the path of a notebook in the job: {action.notebook!r}", hint=hint)
    program.check_parameters(action.parameters)
    return program.files_of(notebook, output_of(action, job), action.parameters, action.kernel)


def output_of(action: NotebookAction, job: Job) -> str:
    """Path of the executed notebook: `path`, a file or a folder, else under its own name in the one output."""
    target = target_of(action.path, job, "the executed notebook")
    return target if action.path.endswith(SUFFIX) else f"{target}/{basename(action.notebook)}"
