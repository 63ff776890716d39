"""`appliance serve`, `stop`, `config`, `doctor`, `tui` and `version`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance import __version__, home
from appliance.cli import gpu_checks, render
from appliance.errors import ApplianceError, DaemonDown, UsageError
from appliance.settings import SETTINGS, Settings, load

STOP_S = 30.0


def configure_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.set_defaults(run=run_serve)


def configure_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="end the containers and the front door too; data stays")
    parser.set_defaults(run=run_stop)


def configure_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    parser.set_defaults(run=run_config)


def configure_doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_doctor)


def configure_tui(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_tui)


def configure_version(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_version)


def run_serve(args: argparse.Namespace) -> int:
    import asyncio  # deferred: the other verbs start without the daemon's weight
    import logging

    from appliance.daemon import Daemon

    level = logging.DEBUG if args.verbose else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("urllib3", "docker", "watchdog", "httpcore2", "httpx2", "httpx", "httpcore", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    os.umask(0o077)  # what is written is the owner's; what others may reach says so itself
    asyncio.run(Daemon(load()).run())
    return 0


def run_stop(args: argparse.Namespace) -> int:
    settings = load()
    pid = home.running_pid(settings)
    if pid is None:
        render.say("the daemon does not run")
    else:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while home.running_pid(settings) == pid:
            if time.monotonic() > deadline:
                raise ApplianceError(
                    f"process {pid} did not stop within {STOP_S:.0f} s", hint=f"kill -9 {pid}; nothing is lost"
                )
            time.sleep(0.05)
        render.say(
            "the daemon has stopped; containers and the front door go on" if not args.all else "the daemon has stopped"
        )
    if args.all:
        import asyncio  # deferred with the rest

        from appliance.shutdown import end_everything

        for line in asyncio.run(end_everything(settings)):
            render.say(line)
    return 0


def run_config(args: argparse.Namespace) -> int:
    settings = load()
    rows = [
        {
            "name": setting.name,
            "value": getattr(settings, setting.name),
            "origin": settings.origins[setting.name],
            "help": setting.help,
        }
        for setting in SETTINGS
    ]
    paths = {
        "home": settings.home,
        "socket": settings.socket,
        "token": settings.token_file,
        "specs": settings.specs_dir,
    }
    if args.output != "table":
        render.data({"settings": rows, "paths": {name: str(path) for name, path in paths.items()}}, args.output)
        return 0
    render.table(("path", "where"), list(paths.items()), empty="")
    print()
    cells = [(row["name"], row["value"] if row["value"] != "" else "''", row["origin"], row["help"]) for row in rows]
    render.table(("setting", "value", "origin", "meaning"), cells, empty="")
    return 0


def run_doctor(args: argparse.Namespace) -> int:
    """Looks by itself first, so that it helps when the daemon does not start."""
    settings = load()
    rows = [(name, *look(settings)) for name, look in CHECKS]
    rows += gpu_checks.local()
    try:
        client = render.client()
        status = client.status()
        rows.append(("daemon", True, f"process {status['pid']}, up {render.age(status['started'], status['now'])}"))
        rows += [(part["name"], part["ok"], part["message"]) for part in status["parts"]]
        rows += gpu_checks.told(client.gpus())
        rows += [(f"spec {found['name']}", False, found["problem"]) for found in status["broken_specs"]]
    except DaemonDown as error:
        rows.append(("daemon", False, f"{error.message}; {error.hint}"))
    for name, ok, text in rows:
        print(f"{'ok  ' if ok else 'BAD '} {name:<12} {render.one_line(text)}")
    return 0 if all(ok for _, ok, _ in rows) else 1


def run_tui(args: argparse.Namespace) -> int:
    from tui.app import main  # deferred: Textual takes a quarter of a second to import

    return main(load().home)


def run_version(args: argparse.Namespace) -> int:
    print(__version__)
    return 0


def _check_home(settings: Settings) -> tuple[bool, str]:
    place = settings.home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return False, f"{place} is not writable for you: use sudo, or set APPLIANCE_HOME"
    disk = shutil.disk_usage(place)
    low = min(settings.low_space_mb << 20, disk.total // 10)
    cure = (
        "" if disk.free >= low else f": new work waits below {render.size(low)}; `appliance space` names what holds it"
    )
    return disk.free >= low, f"{settings.home}, {render.size(disk.free)} free{cure}"


def _check_engine(settings: Settings) -> tuple[bool, str]:
    path = Path(settings.docker_host.removeprefix("unix://") or "/var/run/docker.sock")
    if not path.exists():
        return False, f"no Docker engine at {path}: ./install.sh installs and starts one"
    return os.access(path, os.W_OK), f"{path}" if os.access(
        path, os.W_OK
    ) else f"no permission for {path}: join its group"


def _check_program(program: str, why: str) -> Callable[[Settings], tuple[bool, str]]:
    def look(settings: Settings) -> tuple[bool, str]:
        found = shutil.which(getattr(settings, program, program))
        return found is not None, found or f"{program} is not installed ({why}): ./install.sh installs it"

    return look


def _check_machines(settings: Settings) -> tuple[bool, str]:
    from appliance.spec.machine_tables import read_machines  # deferred with the rest

    try:
        read_machines(settings.machines, str(settings.config_file), default=settings.machine)
    except UsageError as error:
        return False, f"{error.message}; {error.hint}"
    count = len(settings.machines)
    return True, f"{count} of your own in {settings.config_file}" if count else "Gradient's names, none of your own"


CHECKS: tuple[tuple[str, Callable[[Settings], tuple[bool, str]]], ...] = (
    ("home", _check_home),
    ("machines", _check_machines),
    ("docker", _check_engine),
    ("haproxy", _check_program("haproxy", "the front door")),
)
