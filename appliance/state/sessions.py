"""What stands in a notebook's status about the container of its session."""

from __future__ import annotations

import json

from appliance.state.db import Connection


def mark_stopped(db: Connection, uid: str, container: str, at: float | None) -> bool:
    """The session in this container, an id, is about to be stopped from outside; None takes that back.

    True: it is one.
    """
    row = db.execute("SELECT status FROM resources WHERE uid = ?", (uid,)).fetchone()
    document = json.loads(row["status"]) if row else {}
    if document.get("container") != container:
        return False
    document["stopped"] = at
    db.execute("UPDATE resources SET status = ? WHERE uid = ?", (json.dumps(document), uid))
    return True
