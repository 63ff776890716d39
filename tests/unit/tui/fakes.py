"""A stand-in for the client, documents as the daemon sends them, and waiting for what the app shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from textual.pilot import Pilot
from textual.screen import Screen

from appliance.errors import Conflict, DaemonDown
from tui.app import SCREEN_KEYS, ApplianceApp
from tui.kinds import KINDS

HOSTILE = "[bold red]x[/"
SIZE = (120, 40)
DEADLINE_S = 60.0
"""A loaded machine is slow; what is awaited comes in milliseconds elsewhere."""


class FakeClient:
    """Answers from `rows`, remembers what was asked, and goes down when told."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {kind.name: [] for kind in KINDS}
        self.asked: list[tuple[Any, ...]] = []
        self.down = False
        self.refuse = False
        self.closed = False
        self.followed: list[dict[str, Any]] = []
        self.moments: list[Any] = []
        self.run: dict[str, Any] = {}
        """The one run that there is, in full."""

    def items(self, kind: str) -> list[Any]:
        self._alive()
        return self.rows[kind]

    def status(self) -> Any:
        self._alive()
        now = time.time()
        part = {"name": "engine", "ok": False, "message": f"Docker is away {HOSTILE}"}
        active = [{"kind": "run", "name": "a.1", "phase": "Running", "message": HOSTILE, "since": now, "url": ""}]
        broken = [{"name": "b.yaml", "problem": HOSTILE, "declares": [], "updated": now}]
        return {
            "version": "1", "url": "http://x", "home": "/h", "started": now - 5, "now": now, "parts": [part],
            "counts": {"runs": {"Running": 1}}, "active": active, "failed": active, "broken_specs": broken,
        }  # fmt: skip

    def get(self, kind: str, name: str) -> Any:
        self._alive()
        return self.run if kind == "runs" else {"name": name, "note": HOSTILE}

    def act(self, kind: str, name: str, verb: str) -> Any:
        self.asked.append((verb, kind, name))
        if self.refuse:
            raise Conflict(f"no {HOSTILE}", hint="wait")
        return {"name": "train.2"} if verb in ("resume", "replay") else {}

    def history(self, name: str) -> Any:
        return self.moments

    def diff(self, notebook: str, older: str, newer: str, *, limit: int) -> Iterator[Any]:
        yield {"end": True, "cut": "", "changes": 0, "entries": 1}

    def start_run(self, name: str) -> Any:
        self.asked.append(("run", name))
        return {"name": f"{name}.1"}

    def access(self, name: str) -> Any:
        return {"url": "http://x/notebooks/nb/lab?token=t"}

    def delete(self, kind: str, name: str, *, confirm: str) -> None:
        self.asked.append(("delete", kind, name, confirm))

    def apply(self, text: str, file: str) -> Any:
        self.asked.append(("apply", text))
        return [{"kind": "notebook", "name": "nb", "change": "created"}]

    def notebook_from_job(self, run: str, job: str, name: str) -> Any:
        self.asked.append(("notebook", run, job, name))
        return {"reason": "exit code 7", "missing": [HOSTILE]}

    def follow_logs(self, **query: Any) -> Iterator[Any]:
        self.followed.append(query)
        yield {"seq": 1, "part": "", "line": HOSTILE}
        yield {"seq": 2, "part": "job", "line": "two\x1b[2J\x1b[1;31mred\x1b[0m"}

    def close(self) -> None:
        self.closed = True

    def _alive(self) -> None:
        if self.down:
            raise DaemonDown("the daemon does not answer")


def item(name: str, phase: str = "Running") -> dict[str, Any]:
    return {
        "name": name, "phase": phase, "created": time.time() - 60, "source": "cli", "problem": "", "message": "",
        "url": "http://x/y", "status": {}, "id": name,
    }  # fmt: skip


def moment(name: str, cause: str, size: int | None, *, message: str = "", held: list[str] | None = None) -> Any:
    return {
        "id": name, "cause": cause, "message": message, "created": time.time() - 60, "author": "ann", "subject": "",
        "bytes": size, "held": held or [],
    }  # fmt: skip


async def at_rest(pilot: Pilot[None], app: ApplianceApp) -> None:
    """Until no worker runs; one that another replaced counts as ended."""
    deadline = time.monotonic() + DEADLINE_S
    while any(worker.is_running for worker in app.workers):
        assert time.monotonic() < deadline, f"still at work: {list(app.workers)}"
        await pilot.pause(0.01)
    await pilot.pause()


async def settled(pilot: Pilot[None], app: ApplianceApp) -> None:
    app.pulse()
    await at_rest(pilot, app)


async def shows(pilot: Pilot[None], app: ApplianceApp, text: str) -> None:
    """Toasts take a moment to appear."""
    deadline = time.monotonic() + DEADLINE_S
    while text not in text_of(app):
        assert time.monotonic() < deadline, f"{text!r} is not in\n{text_of(app)}"
        await pilot.pause(0.02)


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """A key that asks the daemon has its screen a moment later."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        await pilot.pause(0.02)


async def top(pilot: Pilot[None], app: ApplianceApp, screen: type[Screen[Any]]) -> None:
    await until(pilot, lambda: isinstance(app.screen, screen))
    await pilot.pause()


async def on(pilot: Pilot[None], app: ApplianceApp, kind: str) -> None:
    await pilot.press(SCREEN_KEYS[[found.name for found in KINDS].index(kind) + 1][0])
    await settled(pilot, app)


def text_of(app: ApplianceApp) -> str:
    """Everything on the screen, as plain text."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    assert len(lines) <= height or width
    return "\n".join(strip.text for strip in lines)
