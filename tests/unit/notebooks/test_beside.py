"""What lies beside a workspace, which a session writes to."""

from __future__ import annotations

from appliance.notebooks import beside
from appliance.notebooks.beside import Beside
from appliance.settings import Settings
from tests.unit.storage.test_removing import nested


def test_it_goes_however_deep_a_session_has_nested_folders(settings: Settings) -> None:
    room = Beside(settings)
    nested(room.open("u1") / beside.HOME)
    room.remove("u1")
    assert not room.path("u1").exists()
    room.remove("u1")
