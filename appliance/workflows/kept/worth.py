"""What of the runs is worth a place in a backup: what is kept of failed jobs, and whatever a run that is open has.

The outputs that the step cache holds are not: where they are missing, the job runs.
"""

from __future__ import annotations

from collections.abc import Collection

from appliance.state import runs, step_cache
from appliance.state.db import Database
from appliance.storage.names import part
from appliance.storage.scratch import ROOM
from appliance.workflows.kept import keeping


def leave_out(copy: Database, volumes: Collection[str]) -> set[str]:
    """Those of the volumes that are not backed up. In the copy of the state that is, no row needs them any more.

    What the cache knows of datasets and strings stays in it.
    """
    with copy.write() as db:
        step_cache.forget_volumes(db)
        stays = keeping.needed(db)
        going_on = {part(run) for run in runs.unfinished_ids(db)}
    found = {volume: volume.split("/") for volume in volumes}
    return {
        volume
        for volume, (room, *rest) in found.items()
        if room == ROOM and volume not in stays and rest[0] not in going_on
    }
