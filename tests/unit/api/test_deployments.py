"""Deployments over the API and the CLI: the real app on a socket, real state; the engine and the front door made up."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn

from appliance import home
from appliance.api import commands
from appliance.api.app import build_app
from appliance.api.deployments import rollout, status
from appliance.cli import render
from appliance.cli.main import main
from appliance.client import Client
from appliance.engine.docker import Engine
from appliance.engine.executing import Piece
from appliance.errors import Conflict, DaemonDown, NotFound, RouterError, UsageError
from appliance.router.meters import Meter, ServerMeter
from appliance.settings import Settings
from appliance.state import resources, rollouts, scales
from appliance.telemetry.requests import Step, Traffic
from tests.conftest import Clock
from tests.unit.api.test_api import FakeTelemetry, House

WEB = "image: {image}\nname: web\nport: 80\nresources: {{replicas: 2, instanceType: C4}}\n"
HOSTILE = "\x1b[2J"
DEADLINE_S = 60.0


class Executing:
    """An execution whose output is given, and which may never end."""

    def __init__(self, pieces: Sequence[Piece], *, endless: bool) -> None:
        self._pieces, self._endless = pieces, endless

    async def __aiter__(self) -> AsyncIterator[Piece]:
        for piece in self._pieces:
            yield piece
        if self._endless:
            await asyncio.Event().wait()

    async def exit_code(self) -> int:
        return 7


class FakeEngine:
    def __init__(self) -> None:
        self.pieces = [Piece("stdout", b"caf\xc3\xa9 \xff\n"), Piece("stderr", b"wrong\n")]
        self.endless = False
        self.asked: list[tuple[str, list[str]]] = []
        self.left = threading.Event()

    @asynccontextmanager
    async def executing(self, container_id: str, argv: Sequence[str]) -> AsyncIterator[Executing]:
        self.asked.append((container_id, list(argv)))
        try:
            yield Executing(self.pieces, endless=self.endless)
        finally:
            self.left.set()


class Counting(FakeTelemetry):
    async def traffic(self, prefix: str, *, since: float, until: float, steps: int) -> Traffic:
        assert prefix == "/deployments/web"
        return Traffic(
            requests=30, errors=2, p50_s=0.02, p95_s=0.05, p99_s=None, held=1, longest_held_s=1.5,
            targets={"a" * 12: (20, 0), "gone": (9, 1), "": (1, 1)}, steps=[Step(since, 30, 2)] * steps,
        )  # fmt: skip


class Served:
    """The API on its socket in a thread of its own."""

    def __init__(self, settings: Settings, tmp_path: Path) -> None:
        home.prepare(settings)
        self._settings, self._folder = settings, tmp_path
        self.engine = FakeEngine()
        self.front: Mapping[str, Meter] | None = {"/deployments/web": Meter(14, {"a" * 12: ServerMeter(3, 20, 0)})}
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._up.wait(DEADLINE_S)

    def change(self, work: Any) -> Any:
        """`work(db)` in one transaction."""

        async def run() -> Any:
            with self.house.db.write() as db:
                return work(db)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(DEADLINE_S)

    def serves(self, generation: int, *, image: str = "sha256:1") -> None:
        """That generation is ready, with two replicas."""

        def work(db: Any) -> None:
            row = resources.get(db, "deployment", "web")
            for other in list(rollouts.every(db, row.uid)):
                if other.phase == "Serving":
                    rollouts.set_phase(db, row.uid, other.generation, "Superseded", now=1.0)
            rollouts.set_pin(db, row.uid, generation, {"image": image, "models": {"/m": "mo1"}}, began=1.0)
            rollouts.set_phase(db, row.uid, generation, "Serving", now=2.0)
            replicas = [replica("1-0", "starting", "b"), replica("1-1", "ready", "a"), replica("1-2", "ended", "c")]
            resources.set_status(
                db, row.uid, generation=row.generation, phase="Ready", status={"replicas": replicas, "ready": 1}
            )

        self.change(work)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    async def _meters(self) -> Mapping[str, Meter]:
        if self.front is None:
            raise RouterError("HAProxy is away")
        return self.front

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.house = House(self._folder, self._settings, Clock(time.time()))
        self.house.parts.engine = cast(Engine, self.engine)
        self.house.parts.telemetry = cast(Any, Counting())
        self.house.parts.meters = self._meters
        config = uvicorn.Config(
            build_app(self.house.parts), log_config=None, access_log=False, lifespan="off", ws="none"
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        listener = home.listen(self._settings.socket, 0o600)
        self._up.set()
        try:
            await self._server.serve(sockets=[listener])
        finally:
            self.house.db.close()


def replica(part: str, state: str, container: str) -> dict[str, Any]:
    return {
        "id": part, "state": state, "port": 1, "generation": 1, "message": HOSTILE, "restarts": 0,
        "container": container * 64, "ready": state == "ready", "started": 1.0,
    }  # fmt: skip


@pytest.fixture
def served(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    opened: list[Client] = []

    def connect() -> Client:
        opened.append(Client(socket=settings.socket))
        return opened[-1]

    monkeypatch.setattr(render, "client", connect)
    made = Served(settings, tmp_path)
    yield made
    for each in opened:
        each.close()
    made.stop()


@pytest.fixture
def client(served: Served, settings: Settings) -> Iterator[Client]:
    made = Client(socket=settings.socket)
    yield made
    made.close()


def declared(served: Served, client: Client, *images: str) -> None:
    """A generation for each image, each of which served."""
    for number, image in enumerate(images, 1):
        client.apply(WEB.format(image=image), "web.yaml")
        served.serves(number, image=f"sha256:{image}")


def test_history_diff_and_the_way_back(served: Served, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    declared(served, client, "one", "two")
    first = client.revisions("web")
    assert [(row["generation"], row["image"], row["serving"]) for row in first] == [(2, "two", True), (1, "one", False)]
    assert first[0]["models"] == ["mo1, which is gone, at /m"]
    found = client.revision_diff("web", 1, 2)
    assert found["made_of"] == ["image: sha256:one -> sha256:two"]
    assert {"-image: one", "+image: two"} <= set(found["spec"])
    with pytest.raises(NotFound, match="no generation 9"):
        client.revision_diff("web", 1, 9)
    with pytest.raises(UsageError, match="not a span"):
        client.call("GET", "/v1/deployments/web/revisions/1..x")
    with pytest.raises(NotFound):
        client.roll_back("web", 9)
    with pytest.raises(Conflict, match="mo1, which is gone"):
        client.roll_back("web")

    def without_models(db: Any) -> None:
        rollouts.set_pin(db, resources.get(db, "deployment", "web").uid, 1, {"image": "sha256:one"}, began=1.0)

    served.change(without_models)
    assert main(["deployment", "rollback", "web"]) == 0
    assert "generation 3 brings back generation 1" in capsys.readouterr().err
    newest = client.revisions("web")[0]
    assert (newest["image"], newest["cause"], newest["copies"]) == ("one", "rolled back", 1)
    assert newest["image_id"] == "sha256:one", "the very image"
    assert main(["deployment", "history", "web", "-n", "1"]) == 0
    assert "rolled back to 1" in capsys.readouterr().out
    assert main(["deployment", "diff", "web", "1", "3"]) == 0
    assert "the same spec, image and models" in capsys.readouterr().err
    assert main(["deployment", "diff", "web"]) == 0
    assert "+image: one" in capsys.readouterr().out, "from what served to the newest"


def test_a_restart_is_a_generation_and_the_file_that_wins_is_said(
    served: Served, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    declared(served, client, "one")
    served.change(lambda db: resources.set_source(db, resources.get(db, "deployment", "web").uid, "file:web.yaml"))
    served.house.hints.clear()
    assert main(["deployment", "restart", "web"]) == 0
    told = capsys.readouterr().err
    assert "generation 2 begins afresh" in told
    assert "web.yaml declares this deployment and wins again" in told
    assert served.house.hints == ["deployment"]
    assert client.revisions("web")[0]["cause"] == "restarted"
    served.change(lambda db: resources.set_deleting(db, resources.get(db, "deployment", "web").uid, now=1.0))
    with pytest.raises(Conflict, match="is being deleted"):
        client.restart("web")


def test_to_scale_is_a_generation_only_where_it_changes_something(served: Served, client: Client) -> None:
    declared(served, client, "one")
    served.house.hints.clear()
    assert client.scale("web", 2)["generation"] == 1
    assert served.house.hints == []
    assert client.scale("web", 3)["generation"] == 2
    assert served.house.hints == ["deployment"]
    newest, before = client.revisions("web")
    assert (newest["cause"], newest["image_id"]) == ("scaled", before["image_id"])
    for wrong in (-1, 65):
        with pytest.raises(UsageError):
            client.scale("web", wrong)


def test_what_is_under_way_is_told_and_a_front_door_that_is_away_takes_nothing_from_it(
    served: Served, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    declared(served, client, "one")

    def scaled(db: Any) -> None:
        uid = resources.get(db, "deployment", "web").uid
        scales.put(db, uid, scales.Scale(3, False, f"cpu {HOSTILE}", time.time() - 60, None))

    served.change(scaled)
    (found,) = client.items("deployments")
    assert (found["status"]["held"], found["status"]["asleep"]) == (14, False)
    assert [row["in_flight"] for row in found["status"]["replicas"]] == [None, 3, None]
    assert found["status"]["rollout"]["serving"] == 1
    assert main(["get", "deployments"]) == 0
    assert "14 requests wait" in capsys.readouterr().out
    assert main(["deployment", "show", "web"]) == 0
    shown = capsys.readouterr().out
    assert "generation 1 serves for" in shown
    assert "the load asks for 3 replicas for" in shown
    assert "0.1 a second over 5m, p50 20 ms, p95 50 ms, 2 errors, longest wait for a replica 1.5 s" in shown
    assert "\x1b" not in shown
    traffic = client.traffic("web", time.time() - 60)
    assert [(row["id"], row["requests"], row["in_flight"]) for row in traffic["replicas"]] == [
        ("1-0", 0, None), ("1-1", 20, 3), ("1-2", 0, None), ("gone", 9, None),
    ]  # fmt: skip
    served.front = None
    (found,) = client.items("deployments")
    assert (found["status"]["held"], found["phase"]) == (None, "Ready")
    assert client.traffic("web")["held"] is None


def test_of_a_revision_that_failed_the_last_words_are_shown(
    served: Served, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    declared(served, client, "one", "two")

    def undone(db: Any) -> None:
        uid = resources.get(db, "deployment", "web").uid
        rollouts.set_phase(db, uid, 1, "Serving", now=3.0)
        rollouts.set_phase(db, uid, 2, "Undone", now=4.0, message="it crashed", words=f"no module{HOSTILE}\nbye")

    served.change(undone)
    assert main(["deployment", "show", "web"]) == 0
    shown = capsys.readouterr().out
    assert "generation 2 was undone" in shown
    assert "; generation 1 serves: it crashed" in shown
    assert "  | no module\n  | bye\n" in shown


def test_a_dry_run_tells_the_plan_and_changes_nothing(
    served: Served, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared(served, client, "one")
    file = tmp_path / "web.yaml"
    file.write_text(WEB.format(image="two") + "env: [{name: KEY, value: 'secret:NONE'}]\n")
    assert main(["apply", "-f", str(file), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "updated (dry run)" in shown
    assert "generation 2" in shown
    assert "image one -> two" in shown
    assert "no secret named 'NONE'" in shown
    assert client.get("deployments", "web")["generation"] == 1
    (change,) = client.apply(WEB.format(image="one"), "web.yaml")
    assert "plan" not in change, "it was done"


def test_a_command_is_run_in_a_replica_that_is_ready(
    served: Served, client: Client, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    declared(served, client, "one")
    assert main(["deployment", "exec", "web", "--", "sh", "-c", "exit 7", "--", "-x"]) == 7
    captured = capfdbinary.readouterr()
    assert (captured.out, captured.err) == (b"caf\xc3\xa9 \xff\n", b"wrong\n"), "byte by byte"
    assert served.engine.asked.pop() == ("a" * 64, ["sh", "-c", "exit 7", "--", "-x"])
    for given in (["web", "-r", "1-0", "--", "ls", "-l"], ["-r", "1-0", "web", "--", "ls", "-l"]):
        assert main(["deployment", "exec", *given]) == 7
        assert served.engine.asked.pop() == ("b" * 64, ["ls", "-l"])
    assert main(["deployment", "exec", "web", "ls", "-l"]) == 7
    assert served.engine.asked.pop() == ("a" * 64, ["ls", "-l"])
    assert main(["deployment", "exec", "web"]) == 2
    with pytest.raises(NotFound, match="1-0, 1-1, 1-2") as missing:
        list(client.execute("web", ["ls"], replica="9-9"))
    assert "no replica '9-9'" in missing.value.message
    with pytest.raises(Conflict, match="1-2 of deployment 'web' does not run"):
        list(client.execute("web", ["ls"], replica="1-2"))
    with pytest.raises(UsageError, match="argv is empty"):
        list(client.execute("web", []))
    for argv in (["echo", "é" * 60_000], ["echo", *["x" * 90_000] * 12]):
        with pytest.raises(UsageError, match="too long"):
            list(client.execute("web", argv))
    assert served.engine.asked == []


def test_a_command_ends_with_its_reader_and_a_daemon_that_stops_is_no_good_end(served: Served, client: Client) -> None:
    declared(served, client, "one")
    served.engine.endless = True
    answer = client.execute("web", ["tail", "-f"])
    assert next(answer)["stream"] == "stdout"  # type: ignore[typeddict-item]
    answer.close()  # type: ignore[attr-defined]
    assert served.engine.left.wait(DEADLINE_S)
    served.engine.left.clear()
    answer = client.execute("web", ["tail", "-f"])
    next(answer)
    served._loop.call_soon_threadsafe(served.house.parts.stopping.set)
    with pytest.raises(DaemonDown):
        list(answer)
    assert served.engine.left.wait(DEADLINE_S)


def test_nothing_runs_and_nothing_is_known(served: Served, client: Client) -> None:
    client.apply(WEB.format(image="one"), "web.yaml")
    with pytest.raises(Conflict, match="no replica of deployment 'web' runs"):
        list(client.execute("web", ["ls"]))
    with pytest.raises(Conflict, match="no earlier revision has ever served"):
        client.roll_back("web")
    assert rollout([]) is None
    assert status({}, [], None, None, now=0.0) == {
        "rollout": None, "scale": None, "asleep": False, "held": None, "replicas": [],
    }  # fmt: skip
    assert json.loads(json.dumps(client.get("deployments", "web")))["status"]["rollout"]["serving"] is None


def test_who_leaves_tells_for_how_long_it_is_there_and_is_asked_last_to_run_a_command() -> None:
    rows = [
        {"id": "2-0", "state": "leaving", "container": "b" * 64, "ready": False, "leaves_by": 130.0},
        {"id": "1-0", "state": "starting", "container": "a" * 64, "ready": False},
    ]
    meter = Meter(0, {"b" * 12: ServerMeter(2, 9, 0)})
    for now, left in ((100.0, 30.0), (150.0, 0.0)):
        found = status({"replicas": rows}, [], None, meter, now=now)["replicas"]
        assert [(row["leaving_s"], row["in_flight"]) for row in found] == [(left, 2), (None, None)]
    deployment = cast(resources.Resource, SimpleNamespace(name="web", status={"replicas": rows}))
    assert commands.container_of(deployment, "") == "a" * 64


def test_an_apply_tells_what_is_missing(
    served: Served, client: Client, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is declared all the same: what is missing may come later."""
    file = tmp_path / "web.yaml"
    file.write_text(WEB.format(image="one") + "containerRegistry: hubb\nenv: [{name: T, value: 'secret:NONE'}]\n")
    for change in ("created", "unchanged"):
        assert main(["apply", "-f", str(file)]) == 0
        shown = capsys.readouterr()
        assert change in shown.out
        assert "warning: no registry named 'hubb'; `appliance registry add hubb` asks for its login" in shown.err
        assert "warning: no secret named 'NONE'" in shown.err
    assert main(["deployment", "show", "web"]) == 0
    assert "missing   no registry named 'hubb'" in capsys.readouterr().out
    (listed,) = client.items("deployments")
    assert "missing" not in listed["status"], "only of one"
    file.write_text(WEB.format(image="one"))
    assert main(["apply", "-f", str(file)]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(["deployment", "show", "web"]) == 0
    assert "missing" not in capsys.readouterr().out


def test_to_apply_what_was_undone_once_more_tells_so(
    served: Served, client: Client, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    declared(served, client, "one")
    file = tmp_path / "web.yaml"
    file.write_text(WEB.format(image="bad"))
    assert main(["apply", "-f", str(file)]) == 0
    assert "undone" not in capsys.readouterr().err

    def undo(db: Any) -> None:
        uid = resources.get(db, "deployment", "web").uid
        rollouts.set_phase(db, uid, 2, "Undone", now=3.0, message="it crashed\nlast words")

    served.change(undo)
    assert main(["apply", "-f", str(file)]) == 0
    shown = capsys.readouterr()
    assert "unchanged" in shown.out
    (line,) = shown.err.splitlines()
    assert line == (
        "warning: generation 2 was undone: it crashed; generation 1 serves; "
        "`appliance deployment restart web` tries it once more"
    )
    served.change(lambda db: rollouts.set_phase(db, resources.get(db, "deployment", "web").uid, 1, "Waiting", now=4.0))
    (change,) = client.apply(WEB.format(image="bad"), "web.yaml")
    assert "serves" not in change["warnings"][0]


def test_a_revision_that_never_served_is_told_from_one_that_did(
    served: Served, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    declared(served, client, "one")
    for image in ("wrong", "crashes", "two"):
        client.apply(WEB.format(image=image), "web.yaml")

    def over(db: Any) -> None:
        uid = resources.get(db, "deployment", "web").uid
        rollouts.set_phase(db, uid, 1, "Superseded", now=3.0, message="by generation 4")
        rollouts.set_phase(db, uid, 2, "Superseded", now=3.0, message="by generation 3")
        rollouts.set_phase(db, uid, 3, "Undone", now=3.0, message="it crashed\nlast words")
        rollouts.set_pin(db, uid, 1, {"image": "sha256:1"}, began=1.0)
        rollouts.set_pin(db, uid, 3, {"image": "sha256:3"}, began=1.0)

    served.change(over)
    assert main(["deployment", "history", "web"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("  by generation 4"), "it served"
    assert lines[-2].endswith("  never served; by generation 3")
    assert main(["deployment", "rollback", "web", "--to", "3"]) == 0
    told = capsys.readouterr().err
    assert "warning: generation 3 was undone: it crashed\n" in told
    assert "generation 5 brings back generation 3" in told
    assert main(["deployment", "rollback", "web", "--to", "1"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("given", ["0", "-2", "x", "1.5", ""])
def test_a_number_of_revisions_or_lines_is_from_one_on(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["deployment", "history", "web"], ["notebook", "history", "nb"], ["logs", "deployment/web"]):
        with pytest.raises(SystemExit) as refused:
            main([*command, "-n", given])
        assert refused.value.code == 2
        assert "is not a number from 1 on" in capsys.readouterr().err


def test_a_mistyped_name_is_not_found_with_a_guess(
    served: Served, client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(_: Any) -> list[Any]:
        return []

    monkeypatch.setattr(served.house.parts.telemetry, "logs", none)
    declared(served, client, "one")
    for command in (["deployment", "show", "wbe"], ["logs", "deployment/wbe"], ["logs", "-n", "3", "deployment/wbe"]):
        assert main(command) == 3
        assert "did you mean 'web'?" in capsys.readouterr().err
    assert main(["logs", "deployment/web"]) == 0, "it has not said anything yet"
    assert main(["logs", "deployment/nothing-alike"]) == 3
    assert "did you mean" not in capsys.readouterr().err
    assert main(["logs", "web"]) == 2
    assert "did you mean deployment/web?" in capsys.readouterr().err
    for kind in ("secret/web", "nothing", "nothing/web"):
        assert main(["logs", kind]) == 2
        assert "KIND/NAME with a kind of notebook, run, deployment" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr(render, "client", lambda: Client(socket=Path("/nowhere/socket")))
        assert main(["logs", "web"]) == 2, "a mistake is told without a daemon too"
        assert "KIND/NAME" in capsys.readouterr().err
    assert main(["get", "deploymnt"]) == 2
    assert "did you mean deployments?" in capsys.readouterr().err


def test_the_history_tells_who_asked_for_each_revision(
    served: Served, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In the same words, whatever was asked; what a file declares stays its own."""
    monkeypatch.setenv("SUDO_USER", "ada")
    file = tmp_path / "web.yaml"
    file.write_text(WEB.format(image="one"))
    declared(served, client, "one")
    assert main(["deployment", "scale", "web", "3"]) == 0
    assert main(["deployment", "restart", "web"]) == 0
    monkeypatch.setenv("SUDO_USER", "bob")
    assert main(["apply", "-f", str(file)]) == 0
    assert main(["apply", "-f", str(file), "--dry-run"]) == 0
    served.change(lambda db: resources.set_source(db, resources.get(db, "deployment", "web").uid, "file:web.yaml"))

    def without_models(db: Any) -> None:
        rollouts.set_pin(db, resources.get(db, "deployment", "web").uid, 1, {"image": "sha256:one"}, began=1.0)

    served.change(without_models)
    assert main(["deployment", "rollback", "web", "--to", "1"]) == 0
    told = [(row["cause"], row["source"]) for row in client.revisions("web")]
    assert told == [
        ("rolled back", "bob"), ("applied", "bob"), ("restarted", "ada"), ("scaled", "ada"), ("applied", "ada"),
    ]  # fmt: skip
    assert client.get("deployments", "web")["source"] == "file:web.yaml"
