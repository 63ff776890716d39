"""One deployment as declared and as remembered: what has to run, and what goes on until that is ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance import revisions
from appliance.deployments.plan import Revision
from appliance.spec.models import Deployment
from appliance.state import resources, rollouts
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.state.rollouts import Rollout


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

    def pin_of(self, revision: Revision) -> Mapping[str, Any] | None:
        return next((row.pin for row in self.rows if row.generation == revision.generation), None)


def look(db: Database, deployment: Resource, *, now: float) -> View:
    """Raises SpecError where the spec that has to run cannot be read by this version."""
    nothing = Revision(deployment.generation, "", 0)
    if deployment.deleting or deployment.desired != "running":
        return _view(db, deployment, nothing, {})
    spec = revisions.parse_spec(deployment.name, deployment.spec)
    with db.write() as transaction:
        row = revisions.declare(transaction, deployment, now=now)
    if not spec.enabled or not spec.replicas:
        return _view(db, deployment, nothing, {})
    wanted = Revision(deployment.generation, row.digest, spec.replicas)
    return _view(db, deployment, wanted, {wanted.digest: spec})


def _view(db: Database, deployment: Resource, wanted: Revision, specs: Mapping[str, Deployment]) -> View:
    rows = tuple(rollouts.every(db.read, deployment.uid))
    serving = next((row for row in rows if row.phase == "Serving"), None)
    if serving is None:
        return View(deployment, wanted, None, specs, rows)
    spec = _spec_of(db, deployment, serving.generation)
    replicas = spec.replicas if spec and spec.enabled else 0
    stable = Revision(serving.generation, serving.digest, replicas) if spec else None
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
