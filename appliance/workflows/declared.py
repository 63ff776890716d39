"""The jobs of a run as its spec declares them, for those who ask again and again, such as its followers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from appliance.errors import UsageError
from appliance.spec.load import parse
from appliance.spec.models import Job, Workflow
from appliance.state.runs import Run

MOST = 32
"""Runs that are remembered; a run's spec never changes."""

_seen: OrderedDict[str, Mapping[str, Job]] = OrderedDict()


def declared_jobs(run: Run) -> Mapping[str, Job]:
    """A matrix unrolled. Empty where the spec, valid when it was submitted, is not so any more."""
    if run.id not in _seen:
        try:
            spec = parse("workflow", run.workflow, run.spec)
        except UsageError:
            return {}
        _seen[run.id] = spec.jobs if isinstance(spec, Workflow) else {}
        while len(_seen) > MOST:
            _seen.popitem(last=False)
    return _seen[run.id]
