"""The parts of a notebook's life, put together: what the daemon and the API hold of this room."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import httpx2

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.interrupted import Outages
from appliance.history.workspaces import Workspaces
from appliance.notebooks.acting import Acting
from appliance.notebooks.activity import Activity
from appliance.notebooks.bars import Bars
from appliance.notebooks.beginning import Beginning
from appliance.notebooks.beside import Beside
from appliance.notebooks.carrying import Carrying
from appliance.notebooks.changing import Changing
from appliance.notebooks.cloning import Cloning
from appliance.notebooks.confided import Confided
from appliance.notebooks.controller import NotebookController
from appliance.notebooks.documents import OpenDocuments
from appliance.notebooks.executing.containers import Containers
from appliance.notebooks.executing.controller import Executing
from appliance.notebooks.executing.orders import Orders
from appliance.notebooks.history import History
from appliance.notebooks.idle_gpus import IdleGpus
from appliance.notebooks.kit.kit import Kit, Kitted
from appliance.notebooks.leasing import SessionLeases
from appliance.notebooks.making import Making
from appliance.notebooks.moments import Moments
from appliance.notebooks.mounts import Mounts
from appliance.notebooks.provision import Provision
from appliance.notebooks.publishing import Publishing
from appliance.notebooks.quotas import Quotas
from appliance.notebooks.renaming import Renaming
from appliance.notebooks.sessions import Sessions
from appliance.notebooks.tending import Tending
from appliance.notebooks.trash import Trash, since_boot
from appliance.notebooks.typed import Terminals
from appliance.notebooks.watching import Watching
from appliance.router.router import Router
from appliance.scheduler.leasing import Leases, NoGpus
from appliance.settings import Settings
from appliance.state import resources
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.base import Store
from appliance.storage.room import plenty
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets


class Notebooks:
    kind = NotebookController.kind

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        images: Images,
        workspaces: Workspaces,
        datasets: Datasets,
        models: Models,
        store: Store,
        telemetry: Telemetry,
        router: Router,
        vault: Secrets,
        settings: Settings,
        instance: str,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
        no_room: Callable[[], str] = plenty,
        no_moments: Callable[[], str] | None = None,
        counter: Callable[[], float] = time.monotonic,
        age_counter: Callable[[], float] = since_boot,
        leases: Leases | None = None,
        never: Callable[[str, int], str] = lambda machine, gpus: "",
        waited_for: Callable[[str], str] = lambda uid: "",
        booted: float = 0.0,
    ) -> None:
        """`counter` counts seconds and is never set, `age_counter` also those of a machine that sleeps.

        `leases`: whose GPUs it has; None: nobody's. `never`: why this machine can never give a machine type and a
        number of GPUs. `waited_for`: uid of a notebook -> who waits for such GPUs as it has. Both in words, empty where
        there is nothing to say. `booted`: when the machine began to run, unix time; 0: unknown.
        """
        leases = leases or NoGpus()
        self._db = db
        no_moments = no_moments or no_room
        own_hint = partial(hint, self.kind)
        locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.locks = locks
        # asks 127.0.0.1 in plain HTTP only; `verify` would read the machine's certificates, a tenth of a second
        self._http = httpx2.AsyncClient(trust_env=False, verify=False)
        self._outages = Outages(booted, settings.stop_grace_s)
        moments = Moments(db, workspaces, clock)
        kit = Kit(engine=engine, images=images, home=settings.home, instance=instance)
        beside = Beside(settings)
        sessions = Sessions(
            engine=engine,
            telemetry=telemetry,
            outages=self._outages,
            grace_s=settings.stop_grace_s,
            clock=clock,
            secrets=vault.values,
        )
        cloning = Cloning(
            db=db,
            engine=engine,
            images=images,
            workspaces=workspaces,
            beside=beside,
            telemetry=telemetry,
            vault=vault,
            instance=instance,
            clock=clock,
        )
        beginning = Beginning(cloning, beside, clock, own_hint)
        self._provision = Provision(images, kit, beginning, clock, own_hint)
        self.mounts = Mounts(
            workspaces=workspaces,
            datasets=datasets,
            models=models,
            store=store,
            vault=vault,
            settings=settings,
            beside=beside,
            confided=Confided(instance),
        )
        self.making = Making(
            engine=engine,
            datasets=datasets,
            models=models,
            mounts=self.mounts,
            vault=vault,
            settings=settings,
            instance=instance,
        )
        self.documents = OpenDocuments(engine, self._http)
        self.publishing = Publishing(router, clock)
        self._quotas = Quotas(db=db, store=store, clock=clock, hint=own_hint, locks=locks)
        self.orders = Orders(
            db=db,
            workspaces=workspaces,
            clock=clock,
            hint=hint,
            locks=locks,
            blocked=lambda notebook, spec: bars.beside(notebook, spec),
            no_room=no_room,
        )
        bars = Bars(
            making=self.making,
            quotas=self._quotas,
            orders=self.orders,
            beginning=beginning,
            ownership=self.mounts.ownership,
            no_room=no_room,
        )
        self.executing = Executing(
            db=db,
            images=Kitted(images, kit),
            making=self.making,
            containers=Containers(
                engine=engine,
                making=self.making,
                mounts=self.mounts,
                kit=kit,
                telemetry=telemetry,
                secrets=vault.values,
                root=settings.run_dir / "executions",
                instance=instance,
                grace_s=settings.stop_grace_s,
            ),
            workspaces=workspaces,
            documents=self.documents,
            default_image=settings.notebook_image,
            clock=clock,
            hint=hint,
            locks=locks,
            leases=leases,
        )
        self._tending = Tending(db=db, workspaces=workspaces, settings=settings, locks=locks, no_moments=no_moments)
        self.elsewhere: Callable[[Resource], str] = self.orders.elsewhere
        """What goes on with its files outside its session, in words; it keeps the session as work inside does."""
        self.terminals = Terminals()
        """Of the appliance, that are open in sessions."""
        self.watching = Watching(
            db=db,
            workspaces=workspaces,
            settings=settings,
            activity=Activity(
                engine=engine,
                http=self._http,
                counter=counter,
                gpu_busy=leases.gpu_busy,
                elsewhere=lambda notebook: self.elsewhere(notebook),
                typed=self.terminals.mark,
            ),
            terminals=self.terminals,
            locks=locks,
            clock=clock,
            counter=counter,
            hint=own_hint,
            no_moments=no_moments,
            documents=self.documents,
            idle_gpus=IdleGpus(leases, settings, waited_for),
        )
        self.trash = Trash(
            db=db,
            workspaces=workspaces,
            store=store,
            settings=settings,
            clock=clock,
            counter=age_counter,
            hint=own_hint,
            locks=locks,
            forget=self._forget_beside,
        )
        self._leases = SessionLeases(leases, db, clock, own_hint, never)
        acting = Acting(
            db=db,
            http=self._http,
            sessions=sessions,
            workspaces=workspaces,
            provision=self._provision,
            making=self.making,
            mounts=self.mounts,
            documents=self.documents,
            quotas=self._quotas,
            bars=bars,
            leases=self._leases,
            orders=self.orders,
            moments=moments,
            publishing=self.publishing,
            trash=self.trash,
            forget_beside=self._forget_beside,
            default_image=settings.notebook_image,
            clock=clock,
        )
        self.history = History(
            db=db,
            workspaces=workspaces,
            settings=settings,
            clock=clock,
            hint=own_hint,
            locks=locks,
            end_sessions=acting.end_sessions,
            no_room=no_room,
            documents=self.documents,
            check_still=self.orders.check_still,
        )
        self.changing = Changing(db=db, clock=clock, hint=own_hint, locks=locks, end_session=acting.make_way)
        self.renaming = Renaming(db=db, clock=clock, hint=own_hint, locks=locks, end_session=acting.leave)
        self.carrying = Carrying(
            db=db,
            workspaces=workspaces,
            clock=clock,
            hint=own_hint,
            locks=locks,
            no_room=no_room,
            documents=self.documents,
        )
        self.controller = NotebookController(
            db=db,
            sessions=sessions,
            provision=self._provision,
            quotas=self._quotas,
            bars=bars,
            leases=self._leases,
            moments=moments,
            watching=self.watching,
            publishing=self.publishing,
            acting=acting,
            default_image=settings.notebook_image,
            clock=clock,
            locks=locks,
        )

    async def close(self) -> None:
        """Gives up the image work under way. Sessions go on."""
        await self.watching.close()
        await self._provision.close()
        await self.executing.close()
        await self._http.aclose()

    async def tend(self, now: float, *, by_age: bool = False) -> None:
        """Look after every notebook's quota and history, and the trash: to be called about once a minute.

        `by_age`: the clock is to be believed, so old moments and what is kept long enough in the trash go.
        """
        await self.mounts.tend()
        await self._quotas.tend()
        await self._tending.tend(now, by_age=by_age)
        await self.trash.tend(by_age=by_age)

    async def watch(self) -> None:
        """Look after the sessions that run, their saves and whether anybody uses them: to be called each second."""
        await self.watching.watch()

    def retell(self, uid: str) -> None:
        """The front door has changed this one's route by itself: it is told again at the next pass."""
        self.publishing.forget(uid)

    def preempt(self, uid: str, words: str) -> None:
        """Its session ends with a snapshot for who waits longer or is more urgent, and begins again in its turn."""
        if notebook := resources.find_uid(self._db.read, uid):
            self._leases.preempt(notebook, words)

    def gpu_lost(self, uid: str, words: str) -> None:
        """Its session cannot reach its GPU any more: that ends with a snapshot, and another follows.

        `executing.gpu_lost` is the same for a file that is executed.
        """
        if notebook := resources.find_uid(self._db.read, uid):
            self._leases.lost(notebook, words)

    def engine_lost(self, at: float) -> None:
        """The engine does not answer since then, unix seconds: what it kills goes down with it."""
        self._outages.lost(at)

    def engine_back(self, at: float) -> None:
        self._outages.back(at)

    async def _forget_beside(self, notebook: Resource) -> None:
        """What is kept of it beside its workspace."""
        await self.mounts.forget(notebook)
        self.orders.forget(notebook)
