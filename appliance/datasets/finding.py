"""Which dataset a reference means: every room that reads one asks here, so that they agree."""

from __future__ import annotations

from appliance.datasets.ref import Ref, dataset_uid
from appliance.state import resources
from appliance.state.db import Connection
from appliance.state.resources import Resource

KIND = "dataset"


def find(db: Connection, ref: Ref) -> Resource | None:
    """By id, else by name; its version is not looked at. None: there is no such dataset."""
    uid = dataset_uid(ref.name)
    found = resources.find_uid(db, uid) if uid else None
    return found if found and found.kind == KIND else resources.find(db, KIND, ref.name)
