"""install.sh: its plan for each family of distributions, its arguments, and the functions that change files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from appliance.settings import load

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "install.sh"
PARTS = sorted((ROOT / ".install").glob("*.sh"))
LOCK = ROOT / "requirements.lock"

PACKAGES = {
    "apt": ["docker.io", "haproxy", "git", "python3", "python3-venv", "mmdebstrap"],
    "dnf": ["moby-engine", "haproxy", "git", "python3"],
    "pacman": ["docker", "haproxy", "git", "python"],
}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing of this machine's own installation can be reached."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "APPLIANCE_HOME": str(tmp_path / "data"),
        "APPLIANCE_PREFIX": str(tmp_path / "program"),
        "APPLIANCE_BIN_DIR": str(tmp_path / "bin"),
    }


def install(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(INSTALL), *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def call(env: dict[str, str], script: str) -> subprocess.CompletedProcess[str]:
    """Runs `script` with the functions of install.sh at hand and its paths resolved."""
    whole = f"source {INSTALL}; parse; resolve_paths; {script}"
    return subprocess.run(
        ["bash", "-c", whole], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


# -- plans


@pytest.mark.parametrize("family", PACKAGES)
def test_the_plan_for_a_fresh_machine_installs_everything_with_one_call(places: dict[str, str], family: str) -> None:
    done = install(places, "--dry-run", "--distro", family)

    assert done.returncode == 0, done.stderr
    calls = re.findall(r"would run .*(?: install | -S ).*", done.stdout)
    assert len(calls) == 1
    assert calls[0].split()[-len(PACKAGES[family]) :] == PACKAGES[family]
    assert "nvidia-container-toolkit where there is an NVIDIA GPU" in done.stdout
    assert "where the kernel has ZFS" in done.stdout
    assert "nothing was changed" in done.stdout


VERBS: tuple[list[str], ...] = ([], ["demo"], ["test"], ["test", "--openzfs"], ["uninstall"], ["uninstall", "--purge"])


@pytest.mark.parametrize("verb", VERBS)
def test_a_dry_run_changes_nothing(places: dict[str, str], verb: list[str], tmp_path: Path) -> None:
    done = install(places, *verb, "--dry-run")

    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_plan_names_every_step(places: dict[str, str]) -> None:
    done = install(places, "demo", "--dry-run", "--distro", "apt", "--port", "7171")

    steps = re.findall(r"^==> ([^:]+): \S", done.stdout, re.MULTILINE)
    assert steps == ["Packages", "Docker Engine", "Program", "Storage", "Daemon", "Plan", "Demo"]
    assert f"set port = 7171 in {places['APPLIANCE_HOME']}/config.toml" in done.stdout


def test_the_test_verb_plans_zfs_fuse(places: dict[str, str]) -> None:
    done = install(places, "test", "--dry-run", "--distro", "apt")

    assert done.returncode == 0
    assert "zfs-fuse" in done.stdout
    assert "pytest" in done.stdout


def test_the_test_verb_plans_a_browser_and_its_driver(places: dict[str, str]) -> None:
    done = install(places, "test", "--dry-run", "--distro", "apt")

    assert "nodejs, npm and chromium" in done.stdout
    assert "tests/support/browser/node_modules" in done.stdout
    assert "Packages of Node" not in install(places, "test", "--quick", "--dry-run").stdout


# -- arguments


def test_help_lists_every_verb(places: dict[str, str]) -> None:
    done = install(places, "--help")

    assert done.returncode == 0
    for word in ("install", "demo", "test", "uninstall", "lock", "--dry-run", "--pool", "--openzfs", "--purge"):
        assert re.search(rf"^  {word}\b", done.stdout, re.MULTILINE), word


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--frobnicate"], "unknown option --frobnicate"),
        (["frobnicate"], "unknown verb frobnicate"),
        (["--port"], "--port needs a value"),
        (["--port", ""], "--port needs a value"),
        (["--port", "70000"], "is no TCP port"),
        (["--port", "7070; reboot"], "is no TCP port"),
        (["--pool", "tank; reboot"], "is no name of a zpool"),
        (["--pool", "../tank"], "is no name of a zpool"),
        (["--pool", "-f"], "is no name of a zpool"),
        (["--file-pool", "much"], "is no size"),
        (["--file-pool", "5G", "--pool", "tank/data"], "cannot name a file-backed pool"),
        (["--plain-store", "--pool", "tank"], "--plain-store excludes"),
        (["--home", "here"], "must be an absolute path"),
        (["--home", "/data/../etc"], "must be an absolute path"),
        (["--prefix", "/with space"], "must be an absolute path"),
        (["--distro", "apt"], "goes with --dry-run"),
        (["demo", "--openzfs"], "--openzfs goes with the verb test"),
        (["--dry-run", "--distro", "beos"], "is apt, dnf or pacman"),
    ],
)
def test_wrong_usage_is_refused_before_anything_happens(
    places: dict[str, str], arguments: list[str], says: str, tmp_path: Path
) -> None:
    done = install(places, *arguments)

    assert done.returncode == 2
    assert says in done.stderr
    assert "next: " in done.stderr
    assert list(tmp_path.iterdir()) == []


# -- what the files may hold


def test_no_package_host_is_written() -> None:
    for path in (INSTALL, *PARTS, LOCK, ROOT / ".ci" / "run"):
        text = path.read_text()
        assert set(re.findall(r"\w+://[\w.-]+", text)) <= {"http://127.0.0.1"}, path
        hosts = set(re.findall(r"\b[\w-]+\.(?:com|dev|io|net|org)\b", text))
        assert hosts <= {"docker.io"}, path  # that one is Debian's package


def test_the_scripts_parse() -> None:
    for path in (INSTALL, *PARTS, ROOT / ".ci" / "run"):
        assert os.access(path, os.X_OK) == (path not in PARTS), path
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_every_part_is_read_and_says_what_it_is() -> None:
    read = re.findall(r'^source "\$CHECKOUT/\.install/([\w.]+)"$', INSTALL.read_text(), re.MULTILINE)
    assert sorted(read) == [path.name for path in PARTS]
    for path in PARTS:
        assert re.match(r"# [A-Z].+[.]\n", path.read_text()), path


def test_shellcheck_finds_nothing() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = [str(INSTALL), str(ROOT / ".ci" / "run")]
    # The parts are read and judged as they are sourced.
    done = subprocess.run(
        [shellcheck, "--external-sources", "--check-sourced", *scripts], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def locked(part: str) -> dict[str, str]:
    """Package -> version of `runtime` or `all` of the lock file, as install.sh cuts it."""
    done = subprocess.run(
        ["bash", "-c", f"source {INSTALL}; locked {part}"], capture_output=True, text=True, check=True
    )
    found = re.findall(r"^([a-z0-9-]+)==([^ ;]+)", done.stdout, re.MULTILINE)
    blocks = re.split(r"^(?=[a-z0-9-]+==)", done.stdout, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    return dict(found)


def test_the_lock_holds_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, everything = locked("runtime"), locked("all")
    wanted = [(text, runtime) for text in project["project"]["dependencies"]]
    wanted += [(text, everything) for text in project["dependency-groups"]["dev"] + project["build-system"]["requires"]]
    for text, have in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in have, f"{name} is not locked: ./install.sh lock"
        assert requirement.specifier.contains(have[name], prereleases=True), f"{name}: ./install.sh lock"


def test_the_program_is_installed_without_what_only_tests_need() -> None:
    runtime = locked("runtime")
    assert "pytest" not in runtime
    assert set(runtime) < set(locked("all"))


def test_one_package_can_be_cut_out_of_the_lock() -> None:
    assert list(locked("uv")) == ["uv"]  # and not uvicorn


# -- what this machine is


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("ID=debian\n", "apt"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "apt"),
        ("ID=fedora\n", "dnf"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf"),
        ("ID=arch\n", "pacman"),
        ("ID=manjaro\nID_LIKE=arch\n", "pacman"),
        ("ID=plan9\n", ""),
    ],
)
def test_the_family_is_told_from_os_release(places: dict[str, str], tmp_path: Path, text: str, family: str) -> None:
    release = tmp_path / "os-release"
    release.write_text(text)
    done = call(places, f'OS_RELEASE={release}; detect_family; echo "<$FAMILY>"')
    assert done.stdout.strip() == f"<{family}>"


def test_a_python_that_is_too_old_is_passed_over(places: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "old" / "python3", "exit 1")
    program(tmp_path / "old" / "python3.12", "echo /opt/python3.12")
    places["PATH"] = f"{tmp_path}/old:/usr/bin:/bin"
    script = 'type() { if [[ $1 == -aP ]]; then ls -d "$HOME"/old/*; else builtin type "$@"; fi; }; find_python'
    assert call(places, script).stdout.strip() == "/opt/python3.12"


def test_packages_that_no_repository_has(places: dict[str, str]) -> None:
    absent = "FAMILY=dnf; in_repositories() { return 1; }"

    optional = call(places, f"{absent}; wish gpu 'containers see the GPU' 'add it'; echo went on ${{#BOOKED[@]}}")
    assert optional.returncode == 0
    assert "degraded" in optional.stdout
    assert "next: add it" in optional.stdout
    assert "went on 0" in optional.stdout

    needed = call(places, f"{absent}; want engine 'containers'; echo went on")
    assert needed.returncode == 1
    assert "no repository of this machine has moby-engine|docker-ce|docker" in needed.stderr
    assert "went on" not in needed.stdout


def test_the_first_package_that_the_repositories_have_is_taken(places: dict[str, str]) -> None:
    script = 'FAMILY=dnf; in_repositories() { [[ $1 == docker ]]; }; want engine why; echo "${BOOKED[@]}"'
    assert call(places, script).stdout.splitlines()[-1] == "docker"


def test_pip_settings_are_handed_to_uv(places: dict[str, str], tmp_path: Path) -> None:
    program(
        tmp_path / "python",
        r"""echo ":env:.index-url='file:///first'"
echo "global.cert='/ca.crt'"
echo "global.extra-index-url='\nfile:///more\nfile:///most'"
echo "global.index-url='file:///second'" """,
    )
    script = (
        f'use_indexes_of_pip {tmp_path}/python; echo "$UV_DEFAULT_INDEX|$UV_INDEX|$UV_INDEX_STRATEGY|$SSL_CERT_FILE"'
    )
    assert call(places, script).stdout.strip() == "file:///first| file:///more file:///most|unsafe-best-match|/ca.crt"

    places["UV_INDEX"] = "file:///mine"
    assert call(places, f'use_indexes_of_pip {tmp_path}/python; echo "${{UV_DEFAULT_INDEX:-none}}"').stdout == "none\n"


# -- real OpenZFS


def test_without_a_machine_for_openzfs_its_tests_are_skipped_and_that_is_said(places: dict[str, str]) -> None:
    done = call(
        places, "kernel_runs_zfs() { return 1; }; zfsvm_beside() { echo /nowhere; }; test_openzfs; echo went on"
    )
    assert done.returncode == 0, done.stderr
    assert "skipped: this kernel has no OpenZFS" in done.stdout
    assert "set APPLIANCE_TEST_ZFSVM" in done.stdout
    assert "went on" in done.stdout


def test_a_machine_that_is_named_and_missing_is_an_error(places: dict[str, str]) -> None:
    places["APPLIANCE_TEST_ZFSVM"] = "/nowhere/zfsvm"
    done = call(places, "kernel_runs_zfs() { return 1; }; test_openzfs")
    assert done.returncode == 1
    assert "names no program: /nowhere/zfsvm" in done.stderr


def test_the_machine_gets_the_checkout_read_only_and_its_python(places: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "zfsvm", 'printf "<%s>\\n" "$@"; exit 3')
    program(tmp_path / "python", "echo /opt/python")
    done = call(places, f"ZFSVM=$HOME/zfsvm; in_a_machine {tmp_path}/python -m pytest -k 'a b'")
    said = done.stdout.splitlines()
    assert done.returncode == 3
    assert f"<{ROOT}:{ROOT}:ro>" in said
    assert "</opt/python:/opt/python:ro>" in said
    assert said[-6:] == ["<-->", f"<{tmp_path}/python>", "<-m>", "<pytest>", "<-k>", "<a b>"]


# -- settings


def test_a_setting_is_written_once_and_the_file_keeps_the_rest(places: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "data" / "config.toml"
    config.parent.mkdir()
    config.write_text("# mine\nport = 7171 # why\nshm_mb = 64\n")
    twice = "config_set storage '\"zfs\"'; config_set zpool '\"tank/a\"'; config_set port 7272"

    for _ in range(2):
        assert call(places, twice).returncode == 0
        assert config.read_text() == '# mine\nport = 7272\nshm_mb = 64\nstorage = "zfs"\nzpool = "tank/a"\n'
    settings = load({}, home=config.parent)
    assert (settings.port, settings.storage, settings.zpool, settings.shm_mb) == (7272, "zfs", "tank/a", 64)
    assert call(places, "config_get zpool; config_get port; config_get host").stdout.split() == ["tank/a", "7272"]


def test_a_setting_never_lands_inside_a_table(places: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "data" / "config.toml"
    config.parent.mkdir()
    config.write_text("shm_mb = 64\n[table]\nport = 1\n")
    assert call(places, "config_set storage '\"directory\"'").returncode == 0
    assert tomllib.loads(config.read_text()) == {"shm_mb": 64, "storage": "directory", "table": {"port": 1}}


def test_the_store_of_existing_volumes_is_not_changed(places: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "state.db").touch()
    (data / "config.toml").write_text('storage = "directory"\n')

    done = call(places, "POOL=tank; step_storage")

    assert done.returncode == 1
    assert "in this store already: directory" in done.stderr
    assert (data / "config.toml").read_text() == 'storage = "directory"\n'


def test_without_zfs_the_plain_store_is_chosen_and_said(places: dict[str, str], tmp_path: Path) -> None:
    script = "kernel_has_zfs() { return 1; }; step_storage; step_storage"
    done = call(places, script)
    assert done.returncode == 0, done.stderr
    assert "this kernel has no ZFS" in done.stdout
    assert "directory, as" in done.stdout  # the second time it is a setting like any other
    assert load({}, home=tmp_path / "data").storage == "directory"


def test_a_pool_that_does_not_exist_is_refused(places: dict[str, str], tmp_path: Path) -> None:
    script = "zfs_works() { return 0; }; zfs() { return 1; }; POOL=tank; step_storage"
    done = call(places, script)
    assert done.returncode == 1
    assert "there is no zpool or dataset tank" in done.stderr
    assert not (tmp_path / "data" / "config.toml").exists()


# -- service and links


def test_the_service_lets_the_front_door_live(places: dict[str, str]) -> None:
    unit = call(places, "unit_text").stdout
    assert "KillMode=process" in unit
    assert "Restart=on-failure" in unit
    assert f"Environment=APPLIANCE_HOME={places['APPLIANCE_HOME']}\n" in unit
    assert f"ExecStart={places['APPLIANCE_PREFIX']}/venv/bin/appliance serve\n" in unit


def test_the_service_gets_the_variables_that_builds_need(places: dict[str, str]) -> None:
    places |= {"PIP_INDEX_URL": 'a"b\\c', "HTTPS_PROXY": "p", "SSL_CERT_FILE": "/ca", "SECRET_TOKEN": "no"}
    lines = call(places, "environment_text").stdout.splitlines()
    assert sorted(lines) == ['HTTPS_PROXY="p"', r'PIP_INDEX_URL="a\"b\\c"', 'SSL_CERT_FILE="/ca"']


def test_an_alien_command_is_left_alone(places: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "bin" / "appliance", "echo mine")
    done = call(places, "link_command")
    assert done.returncode == 0
    assert "degraded" in done.stdout
    assert "echo mine" in (tmp_path / "bin" / "appliance").read_text()


def test_a_file_is_written_only_when_it_changes(places: dict[str, str], tmp_path: Path) -> None:
    write = f'if write_if_changed {tmp_path}/sub/file 600 "two\nlines"; then echo wrote; else echo same; fi'
    assert call(places, f"{write}; {write}").stdout.split() == ["wrote", "same"]
    assert (tmp_path / "sub" / "file").stat().st_mode & 0o777 == 0o600


# -- removal


def test_purge_without_a_terminal_needs_yes(places: dict[str, str], tmp_path: Path) -> None:
    keep = tmp_path / "data" / "state.db"
    keep.parent.mkdir()
    keep.touch()
    done = install(places, "uninstall", "--purge")
    assert done.returncode == 2
    assert keep.exists()


def test_purge_refuses_a_directory_that_is_not_the_appliances(places: dict[str, str], tmp_path: Path) -> None:
    keep = tmp_path / "data" / "thesis.tex"
    keep.parent.mkdir()
    keep.touch()
    done = install(places, "uninstall", "--purge", "--yes")
    assert done.returncode == 1
    assert "does not look like the appliance's data" in done.stderr
    assert keep.exists()


def test_removing_nothing_says_so_and_makes_nothing(places: dict[str, str], tmp_path: Path) -> None:
    done = install(places, "uninstall")
    assert done.returncode == 0
    assert "nothing is installed" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_fails_tells_its_line_and_the_log(places: dict[str, str], tmp_path: Path) -> None:
    script = 'trap \'unexpected "$LINENO" "$BASH_COMMAND"\' ERR; LOG=$HOME/log; echo heard >$LOG; run false; echo on'
    done = call(places, script)
    assert done.returncode == 1
    assert "failed: " in done.stderr
    assert "heard" in done.stderr
    assert "on" not in done.stdout.split()


def test_a_stage_shows_its_output_and_passes_its_status_on(places: dict[str, str]) -> None:
    done = call(places, "stage right echo hello; stage wrong bash -c 'echo oops; exit 3' || echo status $?")
    assert re.search(r"hello\n    ok  right, \d+ s", done.stdout)
    assert re.search(r"oops\n    failed  wrong, exit 3, \d+ s\nstatus 3", done.stdout)


def test_what_tests_leave_behind_fails_the_run(places: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "before").write_text("container appliance-11111111-run-a\n")
    script = 'SCRATCH=$HOME; footprint() { sort "$HOME/now"; }; nothing_left'
    (tmp_path / "now").write_text("container appliance-11111111-run-a\n")
    assert call(places, script).returncode == 0
    (tmp_path / "now").write_text("container appliance-11111111-run-a\nprocess 12 haproxy -f /tmp/x\n")
    done = call(places, script)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "process 12 haproxy -f /tmp/x"


def test_an_engine_that_is_forbidden_is_told_from_one_that_is_down(places: dict[str, str], tmp_path: Path) -> None:
    places["PATH"] = f"{tmp_path}/fake:{places['PATH']}"
    program(tmp_path / "fake" / "docker", "echo 'permission denied while trying to connect' >&2; exit 1")
    done = call(places, "step_engine $HOME")
    assert done.returncode == 1
    assert "this user may not use the Docker engine" in done.stderr
    assert "usermod -aG docker" in done.stderr

    program(tmp_path / "fake" / "docker", "echo 'is the docker daemon running?' >&2; exit 1")
    places["DOCKER_HOST"] = "tcp://127.0.0.1:1"
    done = call(places, "step_engine $HOME")
    assert done.returncode == 1
    assert "no engine answers at DOCKER_HOST=tcp://127.0.0.1:1" in done.stderr


def test_the_tale_of_leaks_does_not_hide_the_error(places: dict[str, str], tmp_path: Path) -> None:
    tale = "".join(f' - leaked type "T{number}"\n' for number in range(50))
    (tmp_path / "log").write_text(f"TypeError: the reason\nnanobind: leaked 50 types!\n{tale}")
    assert call(places, "last_lines $HOME/log").stdout == "TypeError: the reason\n"
