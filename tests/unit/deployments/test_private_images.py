"""An image of a registry that asks who it is comes with the login that the spec names."""

from __future__ import annotations

import pytest

from appliance.engine.preparing import RETRY_FIRST_S
from appliance.vault.registries import Registries
from tests.unit.deployments.house import House, spec

pytestmark = pytest.mark.anyio


async def test_the_login_that_the_spec_names_is_used(house: House) -> None:
    house.images.private = {"one": "mine"}
    house.declare(spec("one", containerRegistry="mine"))
    await house.settle()
    assert len(house.running("one")) == 2


async def test_no_other_is(house: House) -> None:
    house.images.private = {"one": "mine"}
    house.declare(spec("one", containerRegistry="other"))
    await house.until(lambda: "no image one" in house.row.message)
    house.declare(spec("one", containerRegistry="mine"))
    await house.settle()
    assert len(house.running("one")) == 2, "the login was not tried as soon as it was declared"


async def test_a_login_that_comes_later_is_tried_at_once(house: House) -> None:
    house.images.missing.add("one")
    house.declare(spec("one", containerRegistry="mine"))
    began = house.clock.now
    await house.until(lambda: house.clock.now > began + 2 * RETRY_FIRST_S)  # the next pause is longer
    assert "no image one" in house.row.message
    house.images.missing.clear()
    registries = Registries(house.db, house.vault, house.clock)
    before = house.clock.now
    assert registries.set("mine", url="ghcr.io", username="me", password="x") == [house.row.uid]
    await house.settle()
    assert house.clock.now - before < RETRY_FIRST_S
