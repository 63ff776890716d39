"""The jobs of one run as a table, and what can be done about a run that failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from appliance.cli import render

if TYPE_CHECKING:
    from appliance import wire

COMMIT = 12
"""Characters of a commit that people read."""


def show_jobs(run: Mapping[str, Any]) -> None:
    rows = [
        (job["name"], job["phase"], render.took(job), _needs(job["needs"]), _detail(job).split("\n")[0])
        for job in run["jobs"]
    ]
    if run["source"] and not run["parent"]:  # else it is what the run itself says
        print(f"started by {run['cause']}: {render.clean(run['source'])}\n")
    render.table(("job", "phase", "took", "needs", "detail"), rows, empty="the run has no jobs")
    for step in next_steps(run):
        render.say(step)


def next_steps(run: Mapping[str, Any]) -> list[str]:
    """What can be done about a run that failed."""
    kept = [job["name"] for job in run["jobs"] if job["capsule"]]
    if not kept or not run["finished"]:
        return []
    return [
        f"look into it: `appliance notebook create NAME --from-job {run['name']}/{kept[0]}`",
        f"go on from there, with the spec of then: `appliance workflow resume {run['name']}`",
    ]


def _needs(needs: list[str]) -> str:
    """The first few: a job may need all of a matrix."""
    return " ".join(needs) if len(needs) <= 4 else f"{' '.join(needs[:3])} and {len(needs) - 3} more"


def _detail(job: wire.Job) -> str:
    values = " ".join(f"{name}={value}" for name, value in job["matrix"].items())
    attempt = f"attempt {job['attempt']}" if job["attempt"] > 1 and not job["message"].startswith("attempt") else ""
    commit = job["commit_id"] if job["commit_id"] not in job["message"] else ""
    at = f"commit {commit[:COMMIT]}" if commit else ""
    return "; ".join(part for part in (values, attempt, at, render.detail(job["phase"], job["message"])) if part)
