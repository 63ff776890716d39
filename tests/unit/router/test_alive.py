from __future__ import annotations

import socket

import pytest

from appliance.router.alive import refusing
from appliance.router.table import Target
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio


async def test_only_where_nobody_listens_a_server_is_gone() -> None:
    """One that takes nothing for now is busy, and still there."""
    gone = free_port()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            targets = [Target("gone", gone), *(Target(f"busy-{number}", port) for number in range(3))]
            assert await refusing(targets) == {("127.0.0.1", gone)}
            assert await refusing(targets) == {("127.0.0.1", gone)}
    assert await refusing([]) == set()
