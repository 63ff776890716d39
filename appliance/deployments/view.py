"""One deployment as declared and as remembered: what has to run, and what goes on until that is ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from appliance import revisions
from appliance.deployments.facts import Revision
from appliance.deployments.progress import target, way_back
from appliance.errors import ApplianceError
from appliance.spec.models import Deployment
from appliance.spec.models import Rollout as Manner
from appliance.state import resources, rollouts
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.state.rollouts import Rollout

_PLAIN = Manner()


class Scaled(Protocol):
    @property
    def replicas(self) -> int: ...
    @property
    def asleep(self) -> bool: ...
    @property
    def why(self) -> str: ...


class Scales(Protocol):
    def replicas(self, deployment: Resource, spec: Deployment) -> Scaled:
        """How many replicas a revision has now, by its spec and by the load."""
        ...

    def silent(self, deployment: Resource) -> Mapping[str, str]:
        """By the short id of its container, what is told of a replica that takes requests and ends none."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    deployment: Resource
    wanted: Revision
    stable: Revision | None
    """The last revision that became ready as a whole; None: none yet."""
    specs: Mapping[str, Deployment]
    """By digest: of the wanted revision, and of the stable one where that is another."""
    rows: Sequence[Rollout]
    """Newest first."""
    asleep: str = ""
    """Why nothing runs until a request comes; empty: it is awake."""
    manner: Manner = _PLAIN
    """How the declared revision takes over."""
    back: bool = False
    """Another revision can go on should the wanted one fail, and nobody has forbidden that."""

    @property
    def spec(self) -> Deployment | None:
        """What has to run; None where nothing has to."""
        return self.specs.get(self.wanted.digest) if self.wanted.replicas else None

    @property
    def row(self) -> Rollout | None:
        """Of the wanted generation."""
        return next((row for row in self.rows if row.generation == self.wanted.generation), None)

    @property
    def pin(self) -> Mapping[str, Any] | None:
        return self.row.pin if self.row else None

    @property
    def undone(self) -> Rollout | None:
        """The declared generation, where it has failed and an earlier one is wanted."""
        newest = next(iter(self.rows), None)
        return newest if newest and newest.phase == "Undone" and newest.generation != self.wanted.generation else None

    def row_of(self, revision: Revision) -> Rollout | None:
        return next((row for row in self.rows if row.generation == revision.generation), None)

    def pin_of(self, revision: Revision) -> Mapping[str, Any] | None:
        row = self.row_of(revision)
        return row.pin if row else None


def look(db: Database, deployment: Resource, scales: Scales, *, now: float) -> View:
    """Raises SpecError where the spec that has to run cannot be read by this version."""
    if deployment.deleting or deployment.desired != "running":
        return _resting(db, deployment, scales)
    declared = revisions.parse_spec(deployment.name, deployment.spec)
    if rollouts.find(db.read, deployment.uid, deployment.generation) is None:
        with db.write() as transaction:
            revisions.declare(transaction, deployment, now=now)
    row = target(tuple(rollouts.every(db.read, deployment.uid)))
    assert row is not None
    spec = declared if row.generation == deployment.generation else _spec_of(db, deployment, row.generation)
    if spec is None or not spec.enabled or not spec.replicas:
        return _resting(db, deployment, scales)
    scaled = scales.replicas(deployment, spec)
    wanted = Revision(row.generation, row.digest, 0 if scaled.asleep else scaled.replicas)
    specs = {wanted.digest: spec}
    if scaled.asleep:
        view = _view(db, deployment, wanted, {}, scales)
        return replace(view, specs=specs, asleep=scaled.why or "no request comes", manner=declared.rollout)
    view = _view(db, deployment, wanted, specs, scales)
    earlier = view.stable is not None and view.stable.digest != wanted.digest and view.stable.digest in view.specs
    back = earlier and declared.rollout.on_failure == "back"
    return replace(view, manner=declared.rollout, back=back)


def _resting(db: Database, deployment: Resource, scales: Scales) -> View:
    row = target(tuple(rollouts.every(db.read, deployment.uid)))
    generation = row.generation if row else deployment.generation
    view = _view(db, deployment, Revision(generation, "", 0), {}, scales)
    try:
        return replace(view, manner=revisions.parse_spec(deployment.name, deployment.spec).rollout)
    except ApplianceError:
        return view  # to stop it needs no spec


def _view(
    db: Database, deployment: Resource, wanted: Revision, specs: Mapping[str, Deployment], scales: Scales
) -> View:
    rows = tuple(rollouts.every(db.read, deployment.uid))
    rested = way_back(rows, wanted.generation)
    serving = next((row for row in rows if row.phase == "Serving"), rested)
    if serving is None:
        return View(deployment, wanted, None, specs, rows)
    spec = _spec_of(db, deployment, serving.generation)
    replicas = scales.replicas(deployment, spec).replicas if spec and spec.enabled and spec.replicas else 0
    # what somebody has stopped does not come back beside what was declared since: only in its place, where that fails
    stable = Revision(serving.generation, serving.digest, 0 if rested else replicas) if spec else None
    if spec and wanted.replicas and replicas:
        specs = {serving.digest: spec, **specs}
    return View(deployment, wanted, stable, specs, rows)


def _spec_of(db: Database, deployment: Resource, generation: int) -> Deployment | None:
    if generation == deployment.generation:
        return revisions.parse_spec(deployment.name, deployment.spec)
    for revision in resources.revisions(db.read, deployment.uid):
        if revision.generation == generation:
            return revisions.parse_spec(deployment.name, revision.spec)
    return None
