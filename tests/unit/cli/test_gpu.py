"""`appliance gpu`: figures where there are some, `-` where the driver tells none, foreign text never obeyed."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import pytest

from appliance.cli import gpu, render
from appliance.errors import NotFound, UsageError

UUID = "GPU-11111111-2222"
OTHER = "GPU-11119999-2222"


def card(uuid: str = UUID, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"uuid": uuid, "profile": "", "state": "ok", "why": "", "holders": []}
    fields |= {"memory": None, "used": None}
    return {**fields, **more}


def holder(name: str = "lab", **more: Any) -> dict[str, Any]:
    fields = {"lease": "l", "kind": "notebook", "name": name, "part": "", "owner": "ada", "since": 1.0}
    return {**fields, "freeing": False, "message": "", "used": None, **more}


def a_gpu(uuid: str = UUID, **more: Any) -> dict[str, Any]:
    silent = dict.fromkeys(("memory", "used", "utilisation", "power_w", "limit_w", "temperature"))
    words = {"lost": "", "fault": "", "throttled": []}
    fields = {"id": uuid, "uuid": uuid, "index": 0, "name": "NVIDIA A100", "split": False}
    return {**silent, **words, **fields, "cards": [card(uuid)], **more}


def a_lease(**more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": "l", "state": "waiting", "kind": "run", "name": "w.1", "part": "fit"}
    fields |= {"owner": "ada", "priority": 0, "preemptible": False, "cards": [], "asks": "1 GPU", "asked": 1.0}
    fields |= {"since": None, "place": 1, "why": "", "behind": "", "forecast": None, "container": "", "message": ""}
    return {**fields, **more}


class FakeClient:
    def __init__(self, *gpus: dict[str, Any], leases: Any = (), ledger: Any = (), message: str = "") -> None:
        self.found = {"items": list(gpus), "ok": True, "message": message}
        self.rows = list(leases)
        self.used = list(ledger)
        self.asked: list[Any] = []

    def gpus(self) -> dict[str, Any]:
        return self.found

    def leases(self) -> list[dict[str, Any]]:
        return self.rows

    def gpu_ledger(self, by: str, since: float) -> dict[str, Any]:
        self.asked.append((by, since))
        return {"by": by, "since": since, "items": self.used}

    def drain_gpu(self, uuid: str, why: str) -> None:
        self.asked.append(("drain", uuid, why))

    def resume_gpu(self, uuid: str) -> None:
        self.asked.append(("resume", uuid))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def show(client: FakeClient, *arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(render, "client", lambda: client)
        parser = argparse.ArgumentParser()
        gpu.configure_gpu(parser)
        parsed = parser.parse_args(arguments)
        assert parsed.run(parsed) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    return show


def test_without_a_verb_it_lists_the_cards(shown: Any) -> None:
    told = a_gpu(
        utilisation=93, memory=80 * 10**9, used=4 * 10**9, power_w=251.4, limit_w=400.0, temperature=71,
        cards=[card(holders=[holder(used=93.4), holder("b", used=None)])], throttled=["at its power limit"],
    )  # fmt: skip
    out, err = shown(FakeClient(told))
    for words in ("NVIDIA A100", "93%", "4.0 GB of 80.0 GB", "251 W of 400", "71 C", "held", "notebook/lab 93%, no"):
        assert words in out
    assert "GPU 0: at its power limit" in err


def test_what_is_not_known_is_a_dash_and_never_nothing(shown: Any) -> None:
    out, _ = shown(FakeClient(a_gpu()))
    assert "0%" not in out
    assert "0 W" not in out
    assert out.splitlines()[1].split()[-1] == "free"
    assert out.count("-") >= 4


def test_instances_stand_below_their_card(shown: Any) -> None:
    migs = [card("MIG-1", profile="1g.10gb", holders=[holder(freeing=True)]), card("MIG-2", profile="3g.40gb")]
    out, _ = shown(FakeClient(a_gpu(split=True, cards=migs)))
    first, one, two = out.splitlines()[1:]
    assert "split" in first
    assert "1g.10gb MIG-1" in one
    assert "freeing" in one
    assert two.rstrip().endswith("free")


def test_a_card_that_is_lost_or_drained_says_why_and_its_words_move_no_cursor(shown: Any) -> None:
    lost = a_gpu(lost="GPU is lost\x1b[2J", fault="Xid 79", cards=[card(state="drained", why="fell off the bus\x1b[H")])
    out, err = shown(FakeClient(lost))
    assert "drained: fell off the bus" in out
    assert "GPU 0: GPU is lost" in err
    assert "GPU 0: Xid 79" in err
    assert "\x1b" not in out + err
    out, _ = shown(FakeClient(a_gpu(split=True, lost="gone", cards=[])))
    assert "lost: gone" in out


def test_no_gpu_is_said_in_words(shown: Any) -> None:
    out, err = shown(FakeClient(message="no NVIDIA driver is installed"))
    assert (out, err) == ("", "no NVIDIA driver is installed\n")


def test_the_queue_tells_who_has_and_who_waits(shown: Any) -> None:
    has = a_lease(state="freeing", kind="notebook", name="lab", part="", cards=[UUID], since=time.time() - 300)
    waits = a_lease(why="all 8 GPUs are held", behind="behind notebook lab", forecast=time.time() + 600.5)
    never = a_lease(place=0, why="it asks for 9 GPUs, this machine has 8\nsecond line")
    out, _ = shown(FakeClient(leases=[has, waits, never]), "queue")
    for words in ("notebook/lab", f"1 GPU: {UUID}", "5m", "being freed", "run/w.1/fit", "in 10m", "nobody knows"):
        assert words in out
    assert "all 8 GPUs are held; behind notebook lab" in out
    assert "this machine has 8; second line" in out
    _, err = shown(FakeClient(), "queue")
    assert err == "nobody has a GPU\nnobody waits for a GPU\n"


def test_the_ledger_in_hours_with_estimates_marked(shown: Any) -> None:
    rows = [
        {"key": "ada", "held_s": 7200, "used_s": 3600, "memory_gb_h": 12.34, "energy_j": 3.6e6, "measured": True},
        {"key": "bob", "held_s": 36, "used_s": None, "memory_gb_h": None, "energy_j": 3600, "measured": False},
        {"key": "(idle)", "held_s": 0, "used_s": 0, "memory_gb_h": 0, "energy_j": None, "measured": True},
    ]
    client = FakeClient(ledger=rows)
    out, err = shown(client, "ledger", "--by", "owner", "--since", "7d")
    ada, bob, idle = (line.split("  ") for line in out.splitlines()[1:])
    assert [cell.strip() for cell in ada if cell] == ["ada", "2.00", "1.00 (50%)", "12.3 GB h", "1.00 kWh"]
    assert [cell.strip() for cell in bob if cell.strip()] == ["bob", "0.01", "-", "-", "~1.0 Wh"]
    assert [cell.strip() for cell in idle if cell.strip()] == ["(idle)", "0.00", "0.00", "0.0 GB h", "-"]
    assert "estimated" in err
    (by, since) = client.asked[0]
    assert by == "owner"
    assert since == pytest.approx(time.time() - 7 * 86_400, abs=60)
    shown_json, _ = shown(FakeClient(ledger=rows), "ledger", "-o", "json")
    assert json.loads(shown_json)["items"] == rows


def test_a_time_that_makes_no_sense_is_refused(shown: Any) -> None:
    with pytest.raises(UsageError):
        shown(FakeClient(), "ledger", "--since", "lately")


def test_a_card_goes_out_of_service_by_its_number_or_the_beginning_of_its_name(shown: Any) -> None:
    client = FakeClient(a_gpu(), a_gpu(OTHER, index=1, split=True, cards=[card("MIG-7")]))
    shown(client, "drain", "1", "--why", "a new fan")
    shown(client, "drain", "gpu-11111")
    shown(client, "resume", "MIG-7")
    assert client.asked == [("drain", OTHER, "a new fan"), ("drain", UUID, ""), ("resume", "MIG-7")]
    with pytest.raises(UsageError, match=OTHER):
        shown(client, "drain", "GPU-1111")
    for unknown in ("2", "", "GPU-3"):
        with pytest.raises(NotFound):
            shown(client, "drain", unknown)
    assert len(client.asked) == 3
