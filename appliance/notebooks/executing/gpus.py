"""The GPUs of executions: each has its own, beside those of the notebook's session, and gives them back at its end."""

from __future__ import annotations

from collections.abc import Callable

from appliance.engine.preparing import Image
from appliance.engine.types import Container
from appliance.errors import GpuRefused
from appliance.notebooks.executing.containers import Seen
from appliance.notebooks.leasing import REFUSED_EVERY_S, without
from appliance.scheduler.leasing import LEASE, Leases
from appliance.scheduler.types import LOCAL, Answer, Who
from appliance.spec.models import Notebook
from appliance.state.executions import FINAL, Execution


class ExecutionLeases:
    def __init__(self, leases: Leases, clock: Callable[[], float]) -> None:
        self._leases = leases
        self._clock = clock
        self._refused: dict[str, tuple[str, float]] = {}
        """Id -> why the engine could give its container no GPU, and until when none is tried."""

    def follow(self, one: Execution, spec: Notebook, seen: Seen) -> None:
        """Tell which container has the GPUs, also where the daemon was killed before it could, or give them back."""
        if seen.state == "ended" or one.phase in FINAL:
            self._leases.release(_who(one, spec))
        elif seen.container and LEASE in seen.container.labels and not self.is_stale(one, spec, seen.container):
            self._leases.held(_who(one, spec), seen.container.id)

    def waits(self, one: Execution, spec: Notebook, image: Image) -> str:
        """Why it has no GPU yet, in words; empty: it has what it needs. Its place in the queue is kept meanwhile."""
        words, until = self._refused.get(one.id, ("", 0.0))
        if self._clock() < until:
            self._leases.release(_who(one, spec))  # others may have them meanwhile
            return words
        had = image.state == "unknown" and self._leases.peek(_who(one, spec)).state == "granted"
        answer = self._ask(one, spec, ready=image.state == "ready" or had)
        return "" if answer.state in ("granted", "unneeded") else answer.words or "its GPU was not given yet"

    def granted(self, one: Execution, spec: Notebook) -> Answer | None:
        """What a container that is made at this moment gets. None: nothing may be made now."""
        answer = self._ask(one, spec, ready=True)
        return answer if answer.state in ("granted", "unneeded") else None

    def held(self, one: Execution, spec: Notebook, lease: Answer, container: str) -> None:
        if lease.lease:
            self._leases.held(_who(one, spec), container)

    def is_stale(self, one: Execution, spec: Notebook, container: Container) -> bool:
        """It was made, and has not run, with GPUs that are not its own any more."""
        label = container.labels.get(LEASE, "")
        return bool(label) and self._leases.peek(_who(one, spec)).lease != label

    def refused(self, one: Execution, error: GpuRefused) -> None:
        """The engine could not give its container the GPUs: nothing begins for a while."""
        words = f"{error.message}; {error.hint}" if error.hint else error.message
        self._refused[one.id] = words, self._clock() + REFUSED_EVERY_S

    def forget(self, key: str) -> None:
        self._refused.pop(key, None)

    def _ask(self, one: Execution, spec: Notebook, *, ready: bool) -> Answer:
        if without(one.spec):
            return Answer("unneeded")
        return self._leases.ask(
            _who(one, spec),
            machine=spec.machine,
            gpus=spec.gpus,
            ready=ready,
            priority=spec.priority,
            preemptible=False,  # no cell is executed twice
        )


def _who(one: Execution, spec: Notebook) -> Who:
    return Who("execution", one.name, one.id, owner=spec.owner or LOCAL)
