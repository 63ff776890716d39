"""Workflow runs and their jobs: `writing` makes and moves runs, `steps` their jobs, `removing` lets them go."""

from __future__ import annotations

from appliance.state.runs.reading import (
    ahead,
    by_number,
    count_by_phase,
    count_waiting,
    failed_since,
    get,
    head,
    last_made,
    names,
    newest,
    unfinished,
    unfinished_ids,
)
from appliance.state.runs.records import FINAL_PHASES, Ahead, Job, Mark, Run
from appliance.state.runs.removing import Candidate, beyond, going_on_from, page, remove
from appliance.state.runs.steps import (
    active_jobs,
    active_names,
    count_jobs,
    had_containers,
    job,
    jobs,
    marks,
    move_job,
    outputs,
    readers,
    try_again,
)
from appliance.state.runs.writing import create, request_cancel, set_inputs, set_phase

__all__ = [
    "FINAL_PHASES",
    "Ahead",
    "Candidate",
    "Job",
    "Mark",
    "Run",
    "active_jobs",
    "active_names",
    "ahead",
    "beyond",
    "by_number",
    "count_by_phase",
    "count_jobs",
    "count_waiting",
    "create",
    "failed_since",
    "get",
    "going_on_from",
    "had_containers",
    "head",
    "job",
    "jobs",
    "last_made",
    "marks",
    "move_job",
    "names",
    "newest",
    "outputs",
    "page",
    "readers",
    "remove",
    "request_cancel",
    "set_inputs",
    "set_phase",
    "try_again",
    "unfinished",
    "unfinished_ids",
]
