"""The boards of the runs under way, and what `plan` decided of one of them: written down in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.spec.models import Workflow
from appliance.state import runs
from appliance.state.db import Connection
from appliance.state.runs import Run
from appliance.workflows import inputs
from appliance.workflows.board import Board
from appliance.workflows.plan import Action, Cancel, Fail, Finish, Omit, Plan, Start
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions
from appliance.workflows.telling import tell


class Decisions:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._boards: dict[str, Board] = {}

    def board(self, run: Run, workflow: Workflow) -> Board:
        """Made once, then told what its jobs under way have come to."""
        db = self._rooms.db.read
        board = self._boards.get(run.id)
        if board is None:
            board = self._boards[run.id] = Board(workflow, runs.marks(db, run.id))
        for name in runs.active_names(db, run.id) ^ board.active:
            self._read(run, board, name)
        return board

    def forget(self, run_id: str) -> None:
        self._boards.pop(run_id, None)

    def write(self, run: Run, board: Board, decided: Plan, *, hold: str, trouble: str, now: float) -> None:
        """Everything decided. From here on the started jobs are found again after a kill.

        `hold`: why an older run keeps it from beginning. `trouble`: what nobody expected. Both in words, or empty.
        """
        waits = decided.waiting > 0 and not hold
        why = self._rooms.no_room() or "waits for a free slot"
        starts = [action.job for action in decided.actions if isinstance(action, Start)]
        told = [name for name in board.untold(why, now) if name not in starts] if waits else []
        moved: list[str] = []
        with self._rooms.db.write() as db:
            if starts and run.phase == "Pending":
                runs.set_inputs(db, run.id, inputs.pinned(run.inputs, self._rooms.resolve))
                runs.set_phase(db, run.id, "Running", started=now)
                tell(self._rooms, run, "Started", "the first job starts")
            elif not any(isinstance(action, Finish) for action in decided.actions):  # what it says then is its end
                self._explain(db, run, hold or trouble, waits=waits)
            for name in told:
                if board[name].message != why:
                    runs.move_job(db, run.id, name, "Pending", "Pending", message=why)
            for action in decided.actions:
                moved += self._move(db, run, board, action, now)
        board.tell(why, told)
        for name in moved:
            self._read(run, board, name)

    def _move(self, db: Connection, run: Run, board: Board, action: Action, now: float) -> Sequence[str]:
        """The jobs that stand elsewhere now."""
        match action:
            case Start(name):
                container = actions.container_name(self._rooms.instance, run, name, board[name].attempt)
                runs.move_job(db, run.id, name, "Pending", "Starting", container=container)
            case Omit(name, reason):
                if runs.move_job(db, run.id, name, "Pending", "Omitted", message=reason, finished=now):
                    tell(self._rooms, run, "JobOmitted", f"{name}: {reason}", level="warning")
            case Fail(name, reason):
                if runs.move_job(db, run.id, name, "Pending", "Failed", message=reason, finished=now):
                    tell(self._rooms, run, "JobFailed", f"{name}: {reason}", level="error")
            case Cancel(name):
                attempt = board[name].attempt
                message = f"canceled before attempt {attempt}" if attempt > 1 else "canceled"
                runs.move_job(db, run.id, name, "Pending", "Canceled", message=message, finished=now)
            case _:
                return ()
        return (action.job,)

    def _explain(self, db: Connection, run: Run, message: str, *, waits: bool) -> None:
        """What a run waits for that has nothing else to do, or whose next job waits for disk space, or its trouble."""
        message = message or (self._rooms.no_room() if waits else "")
        if waits and not message and run.phase == "Pending":
            most = self._rooms.settings.max_parallel_jobs
            message = f"waits for a free slot: {most} jobs at a time (setting max_parallel_jobs)"
        if run.message != message:
            runs.set_phase(db, run.id, run.phase, message=message)

    def _read(self, run: Run, board: Board, name: str) -> None:
        for mark in runs.marks(self._rooms.db.read, run.id, name):
            board.moved(mark)
