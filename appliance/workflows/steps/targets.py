"""Where in its container a job puts the files that it fetches. Pure."""

from __future__ import annotations

from posixpath import normpath

from appliance.errors import UsageError
from appliance.spec.models import Job, Value


def target_of(path: str, job: Job, what: str) -> str:
    """`path`, else the one output that can be meant, else (the dialect of 2021) the one volume input.

    `what` is what goes there, for the words of the UsageError where that is not clear.
    """
    shared = [name for name, given in job.inputs.items() if isinstance(given, Value) and given.type == "volume"]
    if path:
        target = normpath(path)
        inside = target.startswith("/outputs/") or any(f"{target}/".startswith(f"/inputs/{name}/") for name in shared)
        if ".." in path.split("/") or "\0" in path or not inside:
            raise UsageError(f"`path` must lie below /outputs: {path!r}", hint="such as /outputs/repo")
        return target
    directories = [f"/outputs/{name}" for name, output in job.outputs.items() if output.type != "string"]
    if not directories:
        directories = [f"/inputs/{name}" for name in shared]
    if len(directories) == 1:
        return directories[0]
    if directories:
        names = ", ".join(directory.rpartition("/")[2] for directory in directories)
        problem, hint = f"the job has {len(directories)} outputs ({names})", "add `path: /outputs/NAME`"
    else:
        problem, hint = "the job has no output", "add `outputs: {repo: {type: volume}}`"
    raise UsageError(f"{problem}, so it is not clear where {what} goes", hint=hint)
