"""What an apply would do to a deployment, in sentences. Nothing is done, and nothing is fetched, to know it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.revisions.declaring import KIND, parse_spec, serving
from appliance.spec.digest import made_of
from appliance.spec.load import Loaded
from appliance.spec.models import Deployment
from appliance.state import models, registries, resources, rollouts, sealed
from appliance.state.db import Connection
from appliance.vault.secrets import REFERENCE

_REMOVED = "removed:"
"""Source prefix of what a file declared that is gone: to apply it starts it again."""


@dataclass(frozen=True, slots=True)
class Preview:
    plan: Sequence[str]
    """What would happen, one sentence each."""
    missing: Sequence[str]
    """What it needs and what is not there, one sentence each with the next step."""

    @property
    def sentences(self) -> Sequence[str]:
        return (*self.plan, *(f"missing: {one}" for one in self.missing))


def preview(db: Connection, spec: Loaded) -> Preview:
    """Of a deployment's document. Raises SpecError where the one that is declared cannot be read by this version."""
    wanted = parse_spec(spec.name, spec.document)
    missing = (*_missing_secrets(db, wanted), *_missing_models(db, wanted), *_missing_registry(db, wanted))
    old = resources.find(db, KIND, spec.name)
    if old is None:
        return Preview((f"{spec.name}: generation 1 begins with {_replicas(wanted)}: image {wanted.image}",), missing)
    if old.spec == spec.document:
        return Preview((_unchanged(db, old),), missing)
    now_serving = serving(db, old.uid)
    specs = {one.generation: one.spec for one in resources.revisions(db, old.uid)}
    document = specs.get(now_serving.generation) if now_serving else None
    plan = [*_sentences(spec.name, old.generation + 1, wanted, document, now_serving)]
    if old.desired != "running" and not old.source.startswith(_REMOVED):
        plan.append(f"{spec.name}: it is stopped, and nothing runs until `appliance deployment start {spec.name}`")
    return Preview(tuple(plan), missing)


def _unchanged(db: Connection, old: resources.Resource) -> str:
    row = rollouts.find(db, old.uid, old.generation)
    if row and row.phase == "Undone":
        again = f"`appliance deployment restart {old.name}` tries it once more"
        return f"{old.name}: nothing changes; generation {old.generation} was undone, and {again}"
    return f"{old.name}: nothing changes; generation {old.generation} stays"


def _sentences(
    name: str, generation: int, wanted: Deployment, document: Mapping[str, Any] | None, now_serving: Any
) -> Iterator[str]:
    if not wanted.enabled or not wanted.replicas:
        yield f"{name}: generation {generation} stops all replicas"
        return
    if document is None:
        yield f"{name}: generation {generation} begins with {_replicas(wanted)}: image {wanted.image}"
        return
    before = parse_spec(name, document)
    if made_of(before) == made_of(wanted) and before.enabled:
        yield f"{name}: generation {generation} replaces no replica"
    else:
        yield f"{name}: generation {generation} replaces {now_serving.generation}{_changes(before, wanted)}"
        yield f"{name}: {_way(before, wanted)}"
    if before.replicas != wanted.replicas:
        yield f"{name}: {before.replicas} -> {_replicas(wanted)}"


def _changes(before: Deployment, wanted: Deployment) -> str:
    found = []
    if before.image != wanted.image:
        found.append(f"image {before.image} -> {wanted.image}")
    if before.models != wanted.models:
        old, new = (", ".join(mount.id for mount in one.models) or "none" for one in (before, wanted))
        found.append(f"models {old} -> {new}")
    names = [field for field in type(wanted).model_fields if getattr(before, field) != getattr(wanted, field)]
    others = [field for field in names if field not in ("image", "models", "name", "replicas", "extensions")]
    if others:
        found.append(f"other {', '.join(others)}")
    return f": {'; '.join(found)}" if found else ""


def _way(before: Deployment, wanted: Deployment) -> str:
    beside = f"the new replicas are made beside the old ones, {wanted.replicas} beside {before.replicas}"
    beside = f"{beside}, which serve until all of the new ones are ready"
    hold = "" if wanted.rollout.hold_s is None else f" up to {wanted.rollout.hold_s:g} s"
    after = f"the old replicas stop first; requests wait{hold} until the new ones are ready"
    if wanted.rollout.strategy == "surge":
        return beside
    if wanted.rollout.strategy == "swap":
        return after
    return f"{beside}; where both do not fit on this machine, {after}"


def _replicas(spec: Deployment) -> str:
    most = f" to {spec.autoscaling.most}" if spec.autoscaling else ""
    return f"{spec.replicas}{most} replica{'' if spec.replicas == 1 and not most else 's'}"


def _missing_secrets(db: Connection, spec: Deployment) -> Iterator[str]:
    known = {name for name, _ in sealed.names(db)}
    keys = [key for one in spec.integrations for key in (one.access_key, one.secret_key, one.password)]
    keys += [clone.password for clone in (spec.repositories.clones if spec.repositories else ())]
    asked = (REFERENCE.fullmatch(text) for text in (*spec.env.values(), spec.basic_auth, *spec.endpoint.keys, *keys))
    for name in dict.fromkeys(found["name"] for found in asked if found):
        if name not in known:
            yield f"no secret named {name!r}; `appliance secret set {name}` asks for the value"


def _missing_models(db: Connection, spec: Deployment) -> Iterator[str]:
    for mount in spec.models:
        if models.find(db, mount.id) is None and models.newest(db, mount.id) is None:
            yield f"no model {mount.id!r}; `appliance get models` lists what there is"


def _missing_registry(db: Connection, spec: Deployment) -> Iterator[str]:
    if (name := spec.registry) and registries.find(db, name) is None:
        yield f"no registry named {name!r}; `appliance registry add {name}` asks for its login"
