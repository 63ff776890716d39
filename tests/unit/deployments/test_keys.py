"""Keys that no client could send."""

from __future__ import annotations

import pytest

from tests.unit.deployments.house import House, spec

pytestmark = pytest.mark.anyio


async def test_a_key_that_no_header_can_carry_is_said_before_anything_serves(house: House) -> None:
    house.vault.set("KEY", "hunter22\n")
    house.declare(spec("one", replicas=1, endpoint={"keys": ["secret:KEY"]}))
    row = await house.until(lambda: "cannot be sent in a header" in house.row.message)
    assert not house.engine.containers
    assert "hunter22" not in str([row.status, row.message, *house.events])
    house.vault.set("KEY", "hunter22")
    await house.settle()
    access = house.router.routes["/deployments/web"].access
    assert access is not None
    assert len(access.sums) == 1


async def test_a_password_that_no_header_can_carry_is_said_too(house: House) -> None:
    house.vault.set("PASSWORD", "hunter22\n")
    resources = {"machineType": "C4", "ports": [8000], "replicas": 1}
    house.declare({"apiVersion": "v1", "image": "one", "basicAuthKey": "secret:PASSWORD", "resources": resources})
    await house.until(lambda: "cannot be sent in a header" in house.row.message)
    assert not house.engine.containers
