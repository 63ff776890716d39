"""What jupyter-collaboration keeps of documents beyond a session, looked at before Jupyter opens it.

    file-ids.db             path of a file -> the id by which a page asks for it
    documents.db            all that was ever typed and printed in a document; it only grows
    document-sessions.json  sessions of before, whose pages may go on where they were

A page that is open goes on only where the server knows its history: without `documents.db` its session must not be
known either, and it is asked to load itself again. A file that cannot be read must not keep Jupyter from starting.
"""

from __future__ import annotations

import os
from contextlib import suppress

MOST_BYTES = 256 << 20
"""Of documents.db; it is begun anew then."""


def look(folder: str) -> None:
    """Never raises."""
    ids, documents, sessions = (
        os.path.join(folder, name) for name in ("file-ids.db", "documents.db", "document-sessions.json")
    )
    if not _sound(ids):
        _forget(ids)
    if not _sound(documents) or os.path.getsize(documents) > MOST_BYTES:
        _forget(documents)
        _forget(sessions)


def _sound(path: str) -> bool:
    """It is there and can be read."""
    try:
        import sqlite3

        if not os.path.isfile(path):
            return False
        found = sqlite3.connect(path)
        try:
            return bool(found.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
        finally:
            found.close()
    except Exception:
        return False


def _forget(path: str) -> None:
    for end in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            os.unlink(path + end)
