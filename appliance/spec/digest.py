"""What of a deployment's spec its replicas are made of."""

from __future__ import annotations

import hashlib
import json

from appliance.spec.models import Deployment

_APART = {
    *("name", "enabled", "replicas", "region", "registry", "extensions"),
    *("basic_auth", "endpoint", "autoscaling", "sleep", "rollout"),
    *("owner", "priority", "preemptible"),
}
"""Fields that change nothing inside a replica. A probe is not among them: a probe that is wrong must be found out by
replicas that do not serve yet."""


def made_of(spec: Deployment) -> str:
    """Another value asks for other replicas. To be compared with one of this version only, and never stored alone."""
    document = spec.model_dump(mode="json", exclude=_APART, exclude_defaults=True)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
