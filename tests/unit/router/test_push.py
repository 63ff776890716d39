from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import RouterError
from appliance.router.push import Push
from appliance.router.render import render
from appliance.router.table import Table
from tests.unit.router.test_render import DOOR, section

PUSH = Push(Path("/home/run/push.sock"), ["172.18.0.1:9091"])


def test_without_an_address_there_is_no_door_for_pushes() -> None:
    plain = render(Table(), DOOR)
    assert "push" not in plain.config
    assert "frontend push" not in render(Table(), replace(DOOR, push=replace(PUSH, binds=[]))).config


def test_the_door_for_pushes_leads_to_one_socket_only() -> None:
    config = render(Table(), replace(DOOR, push=PUSH)).config
    front, back = section(config, "frontend push"), section(config, "backend pushes")
    assert "  bind 172.18.0.1:9091 maxconn 512" in front
    assert [line for line in front if "backend" in line] == ["  default_backend pushes"]
    assert "  http-request set-header X-Appliance-Caller %[src]" in front
    assert [line.split("'")[1] for line in back if " server " in line] == [
        "unix@/home/run/push.sock",
        "unix@/home/router/pushes.sock",
    ]
    assert "9091" not in "\n".join(section(config, "frontend door"))


def test_where_pushes_wait_only_haproxy_itself_comes() -> None:
    config = render(Table(), replace(DOOR, push=PUSH, user="haproxy", group="haproxy")).config
    assert "  bind 'unix@/home/router/pushes.sock' mode 600 user haproxy" in section(config, "frontend later")
    assert "  bind 'unix@/home/router/pushes.sock' mode 600" in section(
        render(Table(), replace(DOOR, push=PUSH)).config, "frontend later"
    )


def test_without_lua_nothing_waits() -> None:
    config = render(Table(), replace(DOOR, push=PUSH, holds=False)).config
    assert "frontend push" in config
    assert "later" not in config
    assert "lua" not in config


def test_the_rest_of_the_configuration_stays_as_it_was() -> None:
    with_push = render(Table(), replace(DOOR, push=PUSH))
    assert with_push.digest != render(Table(), DOOR).digest
    assert with_push.beside == render(Table(), DOOR).beside


def test_a_socket_that_haproxy_cannot_use_is_refused() -> None:
    with pytest.raises(RouterError, match="such a path"):
        render(Table(), replace(DOOR, push=replace(PUSH, socket=Path("/home/$run/push.sock"))))
