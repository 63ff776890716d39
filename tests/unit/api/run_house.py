"""The routes over real runs: the bench of the workflow tests, whose engine is in memory, behind the real app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from appliance.api.parts import Parts
from appliance.backup.backups import Backups
from appliance.datasets.uploads import Uploads
from appliance.engine.docker import Engine
from appliance.history.measuring import SpaceReports
from appliance.history.workspaces import Workspaces
from appliance.notebooks.notebooks import Notebooks
from appliance.storage.room import Room
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogLine, LogQuery
from appliance.vault.registries import Registries
from tests.unit.workflows.fakes import Bench


class Lines:
    """Stored log lines of runs, in order."""

    def __init__(self) -> None:
        self.stored: list[LogLine] = []

    def add(self, run: str, job: str, text: str) -> None:
        self.stored.append(LogLine(len(self.stored) + 10, 1.0, "run", run, job, "c", "stdout", text))

    async def logs(self, query: LogQuery) -> list[LogLine]:
        found = [line for line in self.stored if line.name == query.name and line.seq > query.after]
        return found[: query.limit] if query.after else found[-query.limit :]

    async def follow(self, query: LogQuery) -> AsyncIterator[list[LogLine]]:
        yield await self.logs(query)


def parts_of(bench: Bench, lines: Lines, hints: list[str]) -> Parts:
    """`hints` gets the kinds that were hinted; runs go on to the bench."""

    def hint(kind: str, uid: str) -> None:
        hints.append(kind)
        if kind == "run":
            bench.hint(uid)

    settings = bench.settings
    room = Room(bench.store, settings.home, low=0, reserve=0)
    return Parts(
        settings=settings,
        instance="0" * 8,
        token="t0k3n",
        db=bench.db,
        engine=cast(Engine, bench.engine),
        datasets=bench.datasets,
        models=bench.models,
        uploads=Uploads(bench.db, bench.store, bench.datasets, settings.uploads_dir, bench.clock),
        workspaces=Workspaces(bench.db, bench.store, bench.clock),
        telemetry=cast(Telemetry, lines),
        secrets=bench.vault,
        registries=Registries(bench.db, bench.vault, bench.clock),
        space=SpaceReports(bench.db, bench.store, room, low=0, clock=bench.clock),
        backups=cast(Backups, None),
        notebooks=cast(Notebooks, None),
        rooms=bench.controller.rooms,
        hint=hint,
        clock=bench.clock,
        started=bench.clock(),
    )
