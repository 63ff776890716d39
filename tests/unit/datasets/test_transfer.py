"""`dataset put` and `get` through the real API: interrupted by a dying daemon, resumed, compared, and kept inside."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.cli import main, render, transfer
from appliance.cli.bar import Bar
from appliance.client import Client
from appliance.errors import Conflict, DaemonDown, NotFound, StorageError, Unavailable, UsageError
from appliance.packs import build
from appliance.packs.entry import Entry
from appliance.settings import Settings
from appliance.storage.directory.store import DirectoryStore
from tests.conftest import Clock
from tests.unit.datasets.served import Served


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PIECES", 1 << 16)
    monkeypatch.setattr(build, "LEAST_PIECE", 1 << 12)
    monkeypatch.setattr(build.packs, "__kwdefaults__", {"most": 1 << 17})


@pytest.fixture
def served(settings: Settings, clock: Clock) -> Iterator[Served]:
    made = Served(settings, lambda: DirectoryStore(settings.volumes_dir, "a test", durable=False), clock)
    made.start()
    made.call(lambda: made.datasets.create("d"))
    yield made
    made.stop()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "deep" / "empty").mkdir(parents=True)
    for number in range(40):
        (root / "deep" / f"f{number}").write_bytes(hashlib.shake_256(b"%d" % number).digest(5000))
    (root / os.fsdecode(b"odd \xff\n")).write_text("odd")
    (root / "large").write_bytes(hashlib.shake_256(b"large").digest(400_000))
    (root / "run").write_text("x")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("/etc/shadow")
    return root


def same(one: Path, other: Path) -> bool:
    done = subprocess.run(["diff", "-r", "--no-dereference", str(one), str(other)], capture_output=True, check=False)
    return done.returncode == 0


def test_there_and_back_again(served: Served, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(source / "fifo")
    done = transfer.put(served.client, "d", source, message="m", tags=["v1"])
    assert "not sent" in capsys.readouterr().err
    (source / "fifo").unlink()
    assert (done["message"], done["tags"], len(done["digest"])) == ("m", ["v1"], 64)
    assert transfer.get(served.client, "d", "v1", tmp_path / "out")["ref"] == done["ref"]
    assert same(source, tmp_path / "out")
    assert (tmp_path / "out" / "run").stat().st_mode & 0o111
    assert (tmp_path / "out" / "large").stat().st_mtime_ns == (source / "large").stat().st_mtime_ns
    transfer.get(served.client, "d", "", tmp_path / "part", path="deep/f7")
    assert [path.name for path in (tmp_path / "part").iterdir()] == ["f7"]
    transfer.get(served.client, "d", "", tmp_path / "deep", path="deep")
    assert same(source / "deep", tmp_path / "deep")
    with pytest.raises(NotFound):
        transfer.get(served.client, "d", "", tmp_path / "none", path="link/x")


def test_what_cannot_be_fetched_is_told(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job may have left anything in its output."""

    async def leave() -> None:
        version = await served.datasets.begin("d", run="r", job="j")
        path = await served.datasets.path(version)
        os.mkfifo(path / "fifo")
        (path / ".appliance-odd").touch()
        (path / "file").write_text("x")
        await served.datasets.commit(version)

    served.do(leave())
    transfer.get(served.client, "d", "", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]
    assert ".appliance-odd, fifo" in capsys.readouterr().err


def test_a_single_file_is_put_under_its_name(served: Served, source: Path, tmp_path: Path) -> None:
    (tmp_path / "named").symlink_to(source / "run")
    transfer.put(served.client, "d", tmp_path / "named")
    transfer.get(served.client, "d", "", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run"]
    with pytest.raises(NotFound):
        transfer.put(served.client, "d", tmp_path / "none")
    with pytest.raises(UsageError):
        transfer.put(served.client, "d", Path("/dev/null"))


def test_a_put_goes_on_after_the_daemon_has_died(
    served: Served, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[int] = []
    put_pack = Client.put_pack

    def dies(client: Client, dataset: str, version: str, pack: bytes) -> object:
        if len(sent) == 3:
            served.stop()
            served.start()
            raise DaemonDown("gone", hint="start it")
        sent.append(len(pack))
        return put_pack(client, dataset, version, pack)

    monkeypatch.setattr(Client, "put_pack", dies)
    with pytest.raises(DaemonDown) as caught:
        transfer.put(served.client, "d", source)
    assert "goes on where it was" in caught.value.hint
    before = sum(sent)
    monkeypatch.setattr(Client, "put_pack", put_pack)
    again: list[int] = []

    def counts(client: Client, dataset: str, version: str, pack: bytes) -> object:
        again.append(len(pack))
        return put_pack(client, dataset, version, pack)

    monkeypatch.setattr(Client, "put_pack", counts)
    transfer.put(served.client, "d", source)
    assert "was begun before" in capsys.readouterr().err
    assert sum(again) + before < 1.3 * sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    transfer.get(served.client, "d", "", tmp_path / "out")
    assert same(source, tmp_path / "out")


def test_a_damaged_pack_is_sent_again(served: Served, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Client._exchange
    damaged: list[str] = []

    def noisy(
        client: Client, method: str, path: str, query: object, payload: bytes | None, *more: object, **kw: float
    ) -> object:
        if path.endswith("/pack") and payload and not damaged:
            damaged.append(path)
            payload = payload[:1000] + bytes([payload[1000] ^ 1]) + payload[1001:]
        return exchange(client, method, path, query, payload, *more, **kw)  # type: ignore[arg-type]

    monkeypatch.setattr(Client, "_exchange", noisy)
    assert transfer.put(served.client, "d", source)["digest"]
    assert damaged


def test_a_get_goes_on_where_it_was_and_fetches_nothing_twice(
    served: Served, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer.put(served.client, "d", source)
    get_pack = Client.get_pack
    monkeypatch.setattr(build, "PACK", 1 << 16)
    got: list[int] = []

    def dies(client: Client, dataset: str, version: str, path: str, files: list[tuple[str, int]]) -> bytes:
        if len(got) == 3:
            raise KeyboardInterrupt
        got.append(len(files))
        return get_pack(client, dataset, version, path, files)

    monkeypatch.setattr(Client, "get_pack", dies)
    with pytest.raises(KeyboardInterrupt):
        transfer.get(served.client, "d", "", tmp_path / "out")
    there = {path for path in (tmp_path / "out").rglob("f*") if path.is_file()}
    assert there
    times = {path: path.stat().st_ctime_ns for path in there}
    monkeypatch.setattr(Client, "get_pack", get_pack)
    transfer.get(served.client, "d", "", tmp_path / "out")
    assert same(source, tmp_path / "out")
    assert {path: path.stat().st_ctime_ns for path in there} == times
    monkeypatch.setattr(Client, "get_pack", None)
    transfer.get(served.client, "d", "", tmp_path / "out")


def test_a_file_that_only_looks_the_same_is_found_out(served: Served, source: Path, tmp_path: Path) -> None:
    transfer.put(served.client, "d", source)
    transfer.get(served.client, "d", "", tmp_path / "out")
    victim = tmp_path / "out" / "deep" / "f3"
    before = victim.stat()
    victim.write_bytes(b"x" * before.st_size)
    os.utime(victim, ns=(before.st_mtime_ns, before.st_mtime_ns))
    with pytest.raises(Conflict, match="is not version"):
        transfer.get(served.client, "d", "", tmp_path / "out")
    victim.unlink()
    transfer.get(served.client, "d", "", tmp_path / "out")
    assert same(source, tmp_path / "out")


def test_a_get_stays_in_its_directory(served: Served, source: Path, tmp_path: Path) -> None:
    transfer.put(served.client, "d", source)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").symlink_to(outside)
    with pytest.raises(Conflict, match=r"something else is there|another kind"):
        transfer.get(served.client, "d", "", tmp_path / "out")
    assert list(outside.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        transfer.get(served.client, "d", "", tmp_path / "file")


def test_an_answer_that_nobody_asked_for_is_not_stored(
    served: Served, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer.put(served.client, "d", source)
    header = build.header(Entry(b"planted", "link", target=b"/etc"))
    monkeypatch.setattr(Client, "get_pack", lambda *_: header + build.END)
    with pytest.raises(Unavailable, match="something else"):
        transfer.get(served.client, "d", "", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_changes_while_it_is_sent_is_told(
    served: Served, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Client.missing

    def then_changes(client: Client, *given: object, **more: bool) -> object:
        found = missing(client, *given, **more)  # type: ignore[arg-type]
        (source / "run").write_text("changed")
        return found

    monkeypatch.setattr(Client, "missing", then_changes)
    with pytest.raises(Conflict, match="has changed") as caught:
        transfer.put(served.client, "d", source)
    assert "run" in str(caught.value)
    monkeypatch.setattr(Client, "missing", missing)
    transfer.put(served.client, "d", source)


def test_the_commands(
    served: Served, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(render, "client", lambda: served.client)

    def run(*arguments: str, code: int = 0) -> str:
        assert main.main(arguments) == code, capsys.readouterr().err
        return capsys.readouterr().out

    ref = run("dataset", "put", "d", str(source), "--tag", "v1", "-m", "first").strip()
    shown = run("dataset", "versions", "d")
    assert ref in shown
    assert "UNIQUE" in shown
    assert "large" in run("dataset", "ls", "d")
    assert "f7" in run("dataset", "ls", "d:v1", "deep")
    assert "/etc/shadow" in run("dataset", "ls", "d", "-o", "json")
    run("dataset", "tag", "d", "best")
    run("dataset", "untag", "d", "v1")
    assert '"best"' in run("dataset", "versions", "d", "-o", "json")
    branch = run("dataset", "branch", "gradient/d:best", "mine").strip()
    assert f"branch         {branch}" in run("dataset", "lineage", "d")
    run("dataset", "put", "d", str(source), "--delete", code=2)
    model = run("model", "create", "net", "d:best", "--type", "onnx").strip()
    assert model in run("model", "versions", "net")
    other = run("model", "create", "net", str(source / "large")).strip()
    assert len(run("model", "versions", "net").splitlines()) == 3
    assert "large" in run("dataset", "ls", "net")
    assert ref in run("model", "lineage", model)
    run("model", "get", other, str(tmp_path / "weights"))
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["large"]
    run("dataset", "remove", ref, "--confirm", ref, code=4)
    run("model", "delete", model)
    run("dataset", "hold", ref, "-m", "paper")
    run("dataset", "remove", ref, "--confirm", ref, code=4)
    run("dataset", "release", ref)
    run("dataset", "remove", ref, code=4)
    run("dataset", "remove", "d", code=2)
    run("dataset", "remove", ref, "--confirm", ref)
    run("dataset", "get", "d", str(tmp_path / "out"), code=3)
    run("dataset", "get", "mine", str(tmp_path / "out"))
    assert same(source, tmp_path / "out")
    assert "hand" in run("dataset", "lineage", "mine")


def test_a_plain_archive_is_whole(served: Served, source: Path, tmp_path: Path) -> None:
    transfer.put(served.client, "d", source)
    (tmp_path / "out").mkdir()
    content = served.client.call("GET", "/v1/datasets/d/archive")
    subprocess.run(["tar", "-x", "-C", str(tmp_path / "out")], input=content, check=True)
    assert same(source, tmp_path / "out")
    with pytest.raises(NotFound):
        served.client.call("GET", "/v1/datasets/d/archive", {"path": "none"})
    with pytest.raises(UsageError):
        served.client.call("GET", "/v1/datasets/d/archive", {"path": "../.."})


def test_a_bar_tells_share_speed_and_rest() -> None:
    bar = Bar("sending", 1000)
    bar.to(200)
    assert bar._first is not None
    began, _ = bar._first
    line = bar.line(600, began + 2, "a\x1b[2Jb")
    assert " 60%" in line
    assert "600 B of 1.0 kB" in line
    assert "200 B/s" in line
    assert "2s left" in line
    assert "\x1b" not in line
    assert "100%" in Bar("x", 0).line(0, 1.0, "")
