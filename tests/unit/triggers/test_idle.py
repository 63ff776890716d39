"""What `apply` says of triggers that cannot fire."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.state import resources
from appliance.triggers import idle
from tests.conftest import Clock
from tests.unit.api.test_api import House
from tests.unit.triggers.conftest import JOBS

pytestmark = pytest.mark.anyio

EACH = "on: {dataset: incoming, folder: /nowhere/x, spec: true, webhook: {secret: 'secret:HOOK'}}\n" + JOBS
TOLD = [
    "there is no dataset 'incoming' yet: its first version starts a run",
    "`on.spec` looks at files of the watched folder, and this workflow came by cli",
    "no signed message is taken: no secret named 'HOOK'",
    "there is nothing at /nowhere/x yet",
]


@pytest.fixture
def house(tmp_path: Path, settings: Settings, clock: Clock) -> Iterator[House]:
    made = House(tmp_path, settings, clock)
    yield made
    made.db.close()


async def warned(house: House, text: str, **more: bool) -> list[str]:
    (change, *_) = (await house.apply(text, "wf.yaml", **more)).json()["items"]
    return list(change["warnings"])


@pytest.mark.parametrize("dry_run", [False, True])
async def test_apply_says_which_triggers_cannot_fire(house: House, dry_run: bool) -> None:
    assert await warned(house, EACH, dry_run=dry_run) == TOLD
    assert await warned(house, JOBS) == []


async def test_what_the_same_file_declares_is_there(house: House) -> None:
    both = "name: wf\nkind: workflow\non: {dataset: data}\n" + JOBS + "---\nkind: dataset\nname: data\n"
    assert await warned(house, both, dry_run=True) == []
    assert await warned(house, both) == []


async def test_a_file_of_the_watched_folder_keeps_its_trigger(house: House) -> None:
    text = "on: {spec: true}\n" + JOBS
    await warned(house, text)
    with house.db.write() as db:
        resources.set_source(db, resources.get(db, "workflow", "wf").uid, "file:wf.yaml")
    assert not [told for told in await warned(house, text) if "on.spec" in told]


async def test_a_disk_that_does_not_answer_holds_up_no_apply(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    away = threading.Event()

    def is_there(_: str) -> bool:
        return away.wait(60)

    monkeypatch.setattr(idle, "_is_there", is_there)
    monkeypatch.setattr(idle, "ANSWER_S", 0.05)
    try:
        assert await warned(house, "on: {folder: /away}\n" + JOBS) == []
    finally:
        away.set()


@pytest.mark.parametrize("size", [3, 300])
def test_what_is_told_is_bounded(size: int) -> None:
    told = idle.together([f"there is nothing at /{number} yet" for number in range(size)])
    assert len(told) <= idle.LONGEST
    assert told.endswith("..." if size == 300 else "/2 yet")
