"""Destroying many volumes in an order that the store accepts."""

from __future__ import annotations

from collections.abc import Collection

from appliance.errors import Conflict
from appliance.storage.base import Store


def destroy_below(store: Store, prefix: str, *, keep: Collection[str] = ()) -> None:
    """All volumes below `prefix` but `keep`, clones before what they were cloned from.

    Raises Conflict where clones that stay need some of them; everything else is gone then.
    """
    left = [volume for volume in store.volumes(prefix) if volume not in keep]
    while left:
        needed = []
        refused: Conflict | None = None
        for volume in reversed(left):
            try:
                store.destroy(volume)
            except Conflict as error:
                needed.append(volume)
                refused = error
        if refused and len(needed) == len(left):
            raise refused
        left = needed[::-1]
