"""What a session finds inside, on the real engine with the real image."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from appliance.notebooks.beside import SAVED, SIGNALS, Beside
from appliance.notebooks.confided import in_memory
from tests.integration.services import Services, eventually, needs_services, services
from tests.integration.test_notebooks import Browser

pytestmark = needs_services

LOOK = """
import getpass, os, pathlib, resource, subprocess, zipfile
pathlib.Path('made.txt').write_text('mine')
pathlib.Path('/storage/mine.txt').write_text('mine')
os.makedirs(os.path.expanduser('~/.config'), exist_ok=True)
def sh(line):
    done = subprocess.run(['bash', '-c', line], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else done.stdout + done.stderr
print(os.getuid(), os.getgid(), getpass.getuser(), os.path.expanduser('~'))
print(sh('whoami'), sh('id -gn'))
print(open('/run/secrets/TOKEN').read(), oct(os.stat('/run/secrets/TOKEN').st_mode & 0o777))
print(open('/models/bert/weights.bin').read(), os.access('/models/bert/weights.bin', os.W_OK))
who = '-c user.name=a -c user.email=b@c'
print(sh(f'git init -q repo && cd repo && git {who} commit -q --allow-empty -m x && git log --format=%s'))
with zipfile.ZipFile('/tmp/tiny-1-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('tiny.py', 'HERE = __file__')
    wheel.writestr('tiny-1.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n')
    wheel.writestr('tiny-1.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr('tiny-1.dist-info/RECORD', '')
installed = sh('pip install -q --user --no-index /tmp/tiny-1-py3-none-any.whl')
print(installed, sh('python3 -c "import tiny; print(tiny.HERE)"'))
shm = os.statvfs('/dev/shm')
print(resource.getrlimit(resource.RLIMIT_STACK)[0] >> 20, shm.f_blocks * shm.f_frsize >> 20)
"""


@pytest.fixture
async def house(base_image: str, notebook_image: str) -> AsyncIterator[Services]:
    async with services() as found:
        yield found


async def a_model(house: Services, tmp_path: Path) -> None:
    house.datasets.create("weights")
    (tmp_path / "weights.bin").write_text("numbers")
    version = await house.datasets.put("weights", tmp_path)
    house.models.register("bert", "Custom", version)


async def test_a_session_of_a_user_who_is_not_root(house: Services, tmp_path: Path) -> None:
    await a_model(house, tmp_path)
    house.vault.set("TOKEN", "hunter2-hunter2")
    house.declare(
        "notebook",
        "nb",
        {"user": "4711:4712", "secrets": ["TOKEN"], "models": {"bert": "bert"}, "shm": "128M", "idle": "never"},
    )
    notebook = await house.phase("notebook", "nb", "Running", within_s=600)
    browser = Browser(house, notebook)
    printed = (await browser.run(LOOK)).splitlines()
    assert printed == [
        "4711 4712 notebook /home/notebook",
        "notebook notebook",
        "hunter2-hunter2 0o400",
        "numbers False",
        "x",
        " /home/notebook/.local/lib/python3.11/site-packages/tiny.py",
        "64 128",
    ]
    workspace = await house.workspaces.open(notebook.uid)
    assert {(found.stat().st_uid, found.stat().st_gid) for found in workspace.rglob("*")} == {(4711, 4712)}

    terminal = await browser.call("POST", "api/terminals")
    url = f"ws://127.0.0.1:{house.settings.port}{browser.base}terminals/websocket/{terminal['name']}"
    async with asyncio.timeout(180), connect(f"{url}?token={browser.token}") as shell:
        await shell.send(json.dumps(["stdin", "echo $((6*7))-$(id -u)-$HOME\n"]))
        said = ""
        while "42-4711-/home/notebook" not in said:
            frame = json.loads(await shell.recv())
            said += frame[1] if frame[0] == "stdout" else ""

    signal = Beside(house.settings).path(notebook.uid) / SIGNALS / SAVED
    before = signal.lstat().st_mtime_ns if signal.exists() else 0
    await browser.put("saved.txt", "x")
    await eventually(lambda: signal.exists() and signal.lstat().st_mtime_ns > before, "the save told")
    assert signal.lstat().st_uid == 4711

    secrets = [found for place in in_memory() for found in (place / f"appliance-{house.instance}").iterdir()]
    assert [found.name for found in secrets] == [f"{notebook.uid}-1"]
    house.ask("notebook", "nb", "stopped")
    await house.phase("notebook", "nb", "Stopped")
    assert not secrets[0].parent.exists()

    house.declare("notebook", "nb", {"user": 0})
    house.ask("notebook", "nb", "running")
    await eventually(lambda: house.get("notebook", "nb").status["started"], "another session")
    await house.phase("notebook", "nb", "Running")
    assert {found.stat().st_uid for found in workspace.rglob("*")} == {0}
    assert await browser.text("made.txt") == "mine"
    house.delete("notebook", "nb")
    await house.gone("notebook", "nb")
    assert not Beside(house.settings).path(notebook.uid).exists()
