"""install.sh on this machine, in directories and on a port of its own: whatever is installed here is not touched."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.haproxy]

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ("appliance", "tui", "specs", "pyproject.toml", "requirements.lock", "README.md", "LICENSE")
SOURCES = (*PROGRAM, "install.sh", ".install")
PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"

Done = subprocess.CompletedProcess[str]


def shell(*argv: str, env: dict[str, str] | None = None, timeout: float = 500) -> Done:
    # Pipes: a daemon that kept its caller's ends open would hang this call.
    return subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


@dataclass
class Machine:
    """One installation: a copy of the checkout, and its own program, data and commands."""

    root: Path
    port: int = field(default_factory=free_port)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def prefix(self) -> Path:
        return self.root / "program"

    @property
    def env(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("APPLIANCE_")}
        return ours | {"PATH": PATH, "APPLIANCE_HOME": str(self.data)}

    def install(self, *arguments: str) -> Done:
        places = ("--prefix", str(self.prefix), "--home", str(self.data), "--bin-dir", str(self.root / "bin"))
        return shell(str(self.root / "checkout" / "install.sh"), *arguments, *places, "--no-service", env=self.env)

    def appliance(self, *arguments: str) -> Done:
        return shell(str(self.root / "bin" / "appliance"), *arguments, env=self.env)

    def pid(self) -> str:
        return (self.data / "run" / "daemon.pid").read_text().strip()

    def containers(self) -> list[str]:
        instance = (self.data / "instance").read_text().strip()
        found = shell("docker", "ps", "-aq", "--filter", f"label=dev.appliance.instance={instance}", env=self.env)
        return found.stdout.split()


@pytest.fixture(scope="module")
def seed() -> Iterator[Path]:
    """A checkout and its program, made once: what takes the time of an installation."""
    root = short_dir()
    checkout = root / "checkout"
    checkout.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, checkout / name)
    script = f"source {checkout}/install.sh; parse --prefix {root}/program --home {root}/data --bin-dir {root}/bin"
    made = shell("bash", "-c", f"{script}; resolve_paths; LOG={root}/log; step_program", env=Machine(root).env)
    assert made.returncode == 0, made.stdout + made.stderr
    yield root
    shutil.rmtree(root)


@pytest.fixture
def machine(seed: Path) -> Iterator[Machine]:
    if shell("docker", "version", env=os.environ | {"PATH": PATH}).returncode != 0:
        pytest.skip("no Docker engine answers")
    root = short_dir()
    shutil.copytree(seed / "checkout", root / "checkout", ignore=shutil.ignore_patterns("__pycache__"))
    machine = Machine(root)
    plant(seed, machine)
    yield machine
    ended = machine.install("uninstall", "--purge", "--yes")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    shutil.rmtree(root)


def short_dir() -> Path:
    """A short path: a unix socket below it may have 107 bytes."""
    path = Path("/tmp") / f"appliance-e2e-{secrets.token_hex(3)}"
    path.mkdir()
    return path


def plant(seed: Path, machine: Machine) -> None:
    """The seed's program, in the place where `machine` would make the same one."""
    releases = machine.prefix / "releases"
    releases.mkdir(parents=True)
    made = next((seed / "program" / "releases").iterdir())
    (releases / made.name).symlink_to(made)


def test_install_again_change_and_remove(machine: Machine, seed: Path) -> None:
    first = machine.install("--plain-store", "--port", str(machine.port))
    assert first.returncode == 0, first.stdout + first.stderr
    status = json.loads(machine.appliance("status", "-o", "json").stdout)
    assert status["home"] == str(machine.data)
    wait_for_front_door(machine.port)
    daemon = machine.pid()

    again = machine.install()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "is up to date" in again.stdout
    assert f"pid {daemon} runs this version" in again.stdout
    assert machine.pid() == daemon

    source = machine.root / "checkout" / "appliance" / "__init__.py"
    before = source.read_text()
    source.write_text(f'{before}\nCHANGED = "by a test"\n')
    with Knocking(machine.port) as knocking:
        changed = machine.install()
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert "another version runs" in changed.stdout
    assert machine.pid() != daemon
    assert knocking.answered > 0
    assert knocking.unanswered == 0, "the front door was closed while the daemon restarted"
    assert len(list((machine.prefix / "releases").iterdir())) == 1
    assert compiled(machine), "the program must not compile itself at every start"

    declared = machine.data / "specs" / "mine.yaml"
    declared.write_text("# kept\n")
    removed = machine.install("uninstall")
    assert removed.returncode == 0, removed.stdout + removed.stderr
    assert not machine.prefix.exists()
    assert not (machine.root / "bin" / "appliance").is_symlink()
    assert declared.read_text() == "# kept\n"
    assert nothing_runs(machine)

    source.write_text(before)
    plant(seed, machine)
    back = machine.install()
    assert back.returncode == 0, back.stdout + back.stderr
    assert machine.appliance("status").returncode == 0

    purged = machine.install("uninstall", "--purge", "--yes")
    assert purged.returncode == 0, purged.stdout + purged.stderr
    assert not machine.data.exists()
    assert nothing_runs(machine)


def test_a_daemon_that_cannot_start_is_told_with_its_log(machine: Machine) -> None:
    machine.data.mkdir()
    (machine.data / "config.toml").write_text(f"port = {machine.port}\nno_such_setting = 1\n")

    done = machine.install("--plain-store")

    assert done.returncode == 1
    assert "the daemon does not answer" in done.stderr
    assert "unknown setting 'no_such_setting'" in done.stderr
    assert f"read {machine.data}/daemon.log" in done.stderr
    assert "no_such_setting = 1" in (machine.data / "config.toml").read_text()


@pytest.mark.zfs
def test_a_given_pool_is_used_and_purge_leaves_what_is_not_ours(machine: Machine, zfs_pool: str) -> None:
    done = machine.install("--pool", zfs_pool, "--port", str(machine.port))
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for_dataset(f"{zfs_pool}/volumes")
    assert shell("zfs", "create", f"{zfs_pool}/mine", env=machine.env).returncode == 0

    purged = machine.install("uninstall", "--purge", "--yes")

    assert purged.returncode == 0, purged.stdout + purged.stderr
    left = shell("zfs", "list", "-H", "-o", "name", "-r", zfs_pool, env=machine.env).stdout.split()
    assert left == [zfs_pool, f"{zfs_pool}/mine"]
    assert shell("zfs", "destroy", f"{zfs_pool}/mine", env=machine.env).returncode == 0


@pytest.mark.zfs
def test_a_file_backed_pool_is_made_kept_and_purged(machine: Machine, zfs_pool: str) -> None:
    pool = f"apptest{secrets.token_hex(4)}"
    done = machine.install("--file-pool", "256M", "--pool", pool, "--port", str(machine.port))
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for_dataset(f"{pool}/volumes")
    assert (machine.data / "pool.img").stat().st_size == 256 << 20

    assert machine.install().returncode == 0
    refused = machine.install("--plain-store")
    assert refused.returncode == 1
    assert "in this store already" in refused.stderr

    purged = machine.install("uninstall", "--purge", "--yes")
    assert purged.returncode == 0, purged.stdout + purged.stderr
    assert pool not in shell("zpool", "list", "-H", "-o", "name", env=machine.env).stdout.split()
    assert zfs_pool in shell("zpool", "list", "-H", "-o", "name", env=machine.env).stdout.split()
    assert not machine.data.exists()


def compiled(machine: Machine) -> bool:
    package = next((machine.prefix / "venv" / "lib").glob("python*")) / "site-packages" / "appliance"
    sources = {path.stem for path in package.glob("*.py")}
    return sources <= {path.name.split(".")[0] for path in (package / "__pycache__").glob("*.pyc")}


class Knocking:
    """Asks the front door again and again, and counts the times that nobody answered, with whatever status."""

    def __init__(self, port: int) -> None:
        self.answered = self.unanswered = 0
        self._url = f"http://127.0.0.1:{port}/healthz"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._knock)

    def __enter__(self) -> Knocking:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _knock(self) -> None:
        while not self._ended.wait(0.05):
            try:
                urllib.request.urlopen(self._url, timeout=60).close()
            except urllib.error.HTTPError as error:
                error.close()  # 503 while the daemon restarts
            except OSError:
                self.unanswered += 1
                continue
            self.answered += 1


def wait_for_front_door(port: int, deadline_s: float = 120) -> None:
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60) as answer:
                assert answer.status == 200
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_for_dataset(name: str, deadline_s: float = 120) -> None:
    deadline = time.monotonic() + deadline_s
    while shell("zfs", "list", name, env=os.environ | {"PATH": PATH}).returncode != 0:
        assert time.monotonic() < deadline, f"the daemon did not make {name}"
        time.sleep(0.1)


def nothing_runs(machine: Machine) -> bool:
    """No process of this installation is left, and no container where its id is still known."""
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace") if folder.name.isdigit() else ""
        except OSError:
            continue  # it has ended meanwhile
        if re.search(rf"{re.escape(str(machine.data))}|{re.escape(str(machine.prefix))}", command):
            return False
    return not (machine.data / "instance").exists() or machine.containers() == []
