"""A notebook under another name, in the trash and back, out into a file: real sessions behind the front door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from appliance.state import resources
from tests.integration.services import Services, eventually, needs_services, services
from tests.integration.test_notebooks import Browser

pytestmark = needs_services


@pytest.fixture
async def house(base_image: str, notebook_image: str) -> AsyncIterator[Services]:
    async with services() as found:
        yield found


async def routed(house: Services) -> set[str]:
    """What the front door leads to."""
    return {route.prefix for route in (await house.router.status()).routes}


async def test_renamed_deleted_and_brought_back_it_has_all_it_had(house: Services) -> None:
    house.declare("notebook", "old", {"kind": "notebook", "name": "old"})
    browser = Browser(house, await house.phase("notebook", "old", "Running", within_s=600))
    await browser.put("a b.txt", "precious")

    await house.notebooks.renaming.rename("old", "new")
    assert await routed(house) <= {"/notebooks/new"}
    renamed = await house.phase("notebook", "new", "Running")
    assert renamed.status["token"] == browser.token, "a client only needs the new address"
    browser = Browser(house, renamed)
    assert browser.base == "/notebooks/new/"
    assert await browser.text("a b.txt") == "precious"
    assert await browser.run("print(open('/notebooks/a b.txt').read())") == "precious\n"

    with house.db.write() as db:
        resources.set_deleting(db, renamed.uid, now=0.0)
    house.reconciler.hint("notebook", renamed.uid)
    await house.gone("notebook", "new")
    assert await house.containers("notebook", "new") == []
    assert await routed(house) == set()
    back = await house.notebooks.trash.undelete("new")
    house.ask("notebook", "new", "running")
    again = await house.phase("notebook", "new", "Running")
    assert (again.uid, again.status["token"]) == (back.uid, browser.token)
    assert await Browser(house, again).text("a b.txt") == "precious"

    async with house.notebooks.carrying.export("new") as pieces:
        content = b"".join([piece async for piece in pieces])

    async def sent() -> AsyncIterator[bytes]:
        yield content

    made = await house.notebooks.carrying.take(sent(), asyncio.Event(), "copy", start=True)
    copied = await house.phase("notebook", "copy", "Running")
    assert copied.uid == made.uid
    assert copied.status["token"] != browser.token
    assert await Browser(house, copied).text("a b.txt") == "precious"
    for name in ("new", "copy"):
        house.delete("notebook", name)
        await house.gone("notebook", name)
    await eventually(lambda: house.store.volumes("workspaces") == [], "the files are gone")
