"""The daemon's home: one daemon at a time, private files, sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
from pytest_socket import SocketConnectBlockedError

from appliance import home
from appliance.errors import ApplianceError, Conflict
from appliance.settings import Settings

HOLDER = """
import sys, time
from pathlib import Path
from appliance import home, settings
held = home.Lock(settings.load({}, home=Path(sys.argv[1])))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    home.prepare(settings)
    return settings


def test_a_second_daemon_is_told_who_holds_the_home(settings: Settings) -> None:
    first = home.Lock(settings)
    with pytest.raises(Conflict, match=str(os.getpid())) as caught:
        home.Lock(settings)
    assert "appliance stop" in caught.value.hint
    assert home.running_pid(settings) == os.getpid()
    first.release()
    assert home.running_pid(settings) is None
    home.Lock(settings).release()


def test_a_killed_daemon_leaves_the_home_free(settings: Settings) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(settings.home)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        assert home.running_pid(settings) == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
    assert home.running_pid(settings) is None
    home.Lock(settings).release()


ORPHAN = """
import os, sys, time
from pathlib import Path
from appliance import home, settings
held = home.Lock(settings.load({}, home=Path(sys.argv[1])))
if os.fork():
    print("held", flush=True)
    time.sleep(60)
os.close(1)
time.sleep(1)
"""


def test_what_a_killed_daemon_was_about_to_start_is_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "LOCK_S", 60.0)
    holder = subprocess.Popen([sys.executable, "-c", ORPHAN, str(settings.home)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
    home.Lock(settings).release()


def test_id_and_token_are_made_once_and_the_token_is_private(settings: Settings) -> None:
    assert home.instance_id(settings) == home.instance_id(settings)
    assert home.api_token(settings) == home.api_token(settings)
    assert settings.token_file.stat().st_mode & 0o077 == 0


def test_a_socket_of_a_dead_daemon_is_replaced(settings: Settings) -> None:
    home.listen(settings.socket, 0o660).close()
    listener = home.listen(settings.socket, 0o660)
    with socket.socket(socket.AF_UNIX) as client, listener:
        client.connect(str(settings.socket))
    assert settings.socket.stat().st_mode & 0o777 == 0o660


def test_a_home_with_too_long_a_name_says_so(settings: Settings) -> None:
    with pytest.raises(ApplianceError, match="cannot listen") as caught:
        home.listen(settings.run_dir / ("x" * 120), 0o660)
    assert "shorter home" in caught.value.hint


def test_unit_tests_reach_no_other_machine() -> None:
    with socket.socket() as outside, pytest.raises((SocketConnectBlockedError, UserWarning)):
        outside.connect(("192.0.2.1", 80))
