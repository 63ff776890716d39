"""Why a run does not get on, shown by its row: what nobody expected at the last look at it or at one of its jobs."""

from __future__ import annotations

import logging

from appliance.errors import ApplianceError, NotFound
from appliance.state import runs
from appliance.state.runs import FINAL_PHASES, Run
from appliance.telemetry.redact import Redactor
from appliance.workflows.rooms import Rooms
from appliance.workflows.telling import tell

log = logging.getLogger(__name__)

ENDING = "all jobs are over; ending it fails: "
MOST_WORDS = 400
"""Characters of an unexpected error that are shown."""


class Troubles:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._said: dict[str, str] = {}
        """`RUN/JOB` -> what nobody expected at the last look at it, in words; until a look succeeds."""

    def of(self, run_id: str) -> str:
        return next((said for key, said in self._said.items() if key.startswith(f"{run_id}/")), "")

    def passed(self, key: str) -> bool:
        """A look at `RUN/JOB` has succeeded. True: the run shows that one has not."""
        return bool(self._said.pop(key, ""))

    def forget(self, run_id: str) -> None:
        for key in [key for key in self._said if key.startswith(f"{run_id}/")]:
            del self._said[key]

    def say(self, run_id: str, name: str, message: str) -> None:
        """In the row of the job, unless it is over."""
        with self._rooms.db.write() as db:
            job = runs.job(db, run_id, name)
            if job.phase not in FINAL_PHASES and job.message != message:
                runs.move_job(db, run_id, name, job.phase, job.phase, message=message)

    def show(self, run_id: str, name: str, error: Exception) -> None:
        """Whoever looks at the run sees why it does not get on. What a job is refused, that job says itself."""
        if name and isinstance(error, ApplianceError):
            return
        try:
            run = runs.head(self._rooms.db.read, run_id)
            if run.finished is None:
                self._show(run, name, self._words(error))
        except NotFound:
            return
        except Exception:
            log.exception("run %s: why it does not get on cannot be written down", run_id)

    def _show(self, run: Run, name: str, words: str) -> None:
        message, over = f"{words}; tried again", False
        if name:
            self.say(run.id, name, f"{words}; trying again")
            message = self._said[f"{run.id}/{name}"] = f"job {name}: {message}"
        elif over := all(mark.phase in FINAL_PHASES for mark in runs.marks(self._rooms.db.read, run.id)):
            message = ENDING + message
        with self._rooms.db.write() as db:
            if run.message != message:
                runs.set_phase(db, run.id, run.phase, message=message)
            if over and not run.message.startswith(ENDING):
                tell(self._rooms, run, "EndingFailed", message, level="error")

    def _words(self, error: Exception) -> str:
        if isinstance(error, ApplianceError):
            return error.message + (f" (next: {error.hint})" if error.hint else "")
        said = Redactor(self._rooms.vault.values()).scrub(" ".join(str(error).split()))[:MOST_WORDS]
        return f"unexpected {type(error).__name__}" + (f": {said}" if said else "")
