from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.router.requests import (
    BATCH_MOST,
    PAUSES_S,
    WAITING_MOST,
    Place,
    Records,
    Request,
    parse,
    pause_after,
)

LINE = "1764000000590 deployments/x ab12 - 12 340 200 ---- 120 5000"


async def pieces(*of: bytes) -> AsyncIterator[bytes]:
    for piece in of:
        yield piece


def test_a_record_is_read() -> None:
    assert parse(LINE) == Request(
        at=1764000000.25,
        prefix="/deployments/x",
        target="ab12",
        status=200,
        held_ms=0,
        wait_ms=12,
        total_ms=340,
        cut=False,
        received=120,
        sent=5000,
    )


@pytest.mark.parametrize(
    ("line", "target", "status", "held", "wait", "cut"),
    [
        ("1700000000000 deployments/x <NOSRV> 60000 -1 60001 503 PR-- 1 1", "", 503, 60000, -1, False),
        ("1700000000000 deployments/x a 7 -1 +3 -1 CH-- 1 0", "a", 0, 7, -1, True),
        ("1700000000000 deployments/x a - 5 30 200 SD-- 1 9", "a", 200, 0, 5, True),
        ("1700000000000 deployments/x a - 5 30 200 CD-- 1 9", "a", 200, 0, 5, True),
        ("1700000000000 deployments/x a - -1 30 504 sH-- 1 9", "a", 504, 0, -1, False),
        ("1700000000000 deployments/x a - 5 90000 101 CD-- 1 9", "a", 101, 0, 5, False),
    ],
)
def test_how_a_request_ended(line: str, target: str, status: int, held: int, wait: int, cut: bool) -> None:
    found = parse(line)
    assert found is not None
    assert (found.target, found.status, found.held_ms, found.wait_ms, found.cut) == (target, status, held, wait, cut)


@pytest.mark.parametrize(
    "line", ["", "x", LINE + " more", LINE.replace("200", "2e2"), LINE.replace("deployments/x", "a b"), LINE[1:] * 2]
)
def test_what_is_no_record_is_none(line: str) -> None:
    assert parse(line) is None


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    assert parse(text) is None


@pytest.mark.anyio
async def test_what_was_told_before_is_not_told_again(tmp_path: Path) -> None:
    lines = [LINE.replace("0590", f"{number}590") for number in range(1, 6)]
    before = Records(lambda prefix: True, tmp_path / "heard")
    before.told([record for line in lines[:3] if (record := parse(line))])
    again = Records(lambda prefix: True, tmp_path / "heard")
    await again.read(pieces("\n".join((*lines, "")).encode()), Place(again._heard))
    assert [round(record.ended, 3) for record in await again.next()] == [1764000004.590, 1764000005.590]


def lines_from(*seconds: int) -> list[str]:
    return [LINE.replace("1764000000", str(second)) for second in seconds]


async def heard(records: Records, lines: list[str], place: Place) -> list[int]:
    """Seconds in which those ended that are given out."""
    await records.read(pieces("\n".join((*lines, "")).encode()), place)
    found: list[int] = []
    while not records._batches.empty():
        batch = await records.next()
        records.told(batch)
        found += [int(record.ended) for record in batch]
    return found


@pytest.mark.anyio
async def test_a_clock_that_is_set_back_hides_no_request(tmp_path: Path) -> None:
    """HAProxy tells its whole memory at each connection, and ends one that says nothing for a while."""
    now = 1764000000.0
    records = Records(lambda prefix: True, tmp_path / "heard", lambda: now)
    place = Place()
    early, late = lines_from(2_000_000_000, 2_000_000_001), lines_from(1_764_000_001, 1_764_000_002)
    assert await heard(records, early, place) == [2_000_000_000, 2_000_000_001]
    assert await heard(records, early, place) == []
    assert await heard(records, early + late, place) == [1_764_000_001, 1_764_000_002]
    assert await heard(records, early + late, place) == []
    records.close()
    assert records._heard == pytest.approx(1_764_000_002.59)


@pytest.mark.anyio
async def test_a_time_that_is_yet_to_come_is_no_place_to_go_on_from(tmp_path: Path) -> None:
    (tmp_path / "heard").write_text("2000000000.000\n")
    records = Records(lambda prefix: True, tmp_path / "heard", lambda: 1764000010.0)
    assert await heard(records, lines_from(1_764_000_001), Place(records._heard)) == [1_764_000_001]


@pytest.mark.parametrize("text", ["", "x", "nan", "\0"])
def test_a_damaged_note_of_what_was_told_tells_all_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "heard").write_text(text)
    Records(lambda prefix: True, tmp_path / "heard").told([])


@pytest.mark.anyio
@given(st.binary(max_size=200))
async def test_no_bytes_break_the_stream(data: bytes) -> None:
    records = Records(lambda prefix: True, Path("/nowhere"))
    whole = data + b"\n" + LINE.encode() + b"\n"
    await records.read(pieces(*(whole[at : at + 7] for at in range(0, len(whole), 7))))
    assert parse(LINE) in await records.next()


@pytest.mark.anyio
async def test_batches_are_bounded_and_the_rest_stays_with_the_sender() -> None:
    records = Records(lambda prefix: True, Path("/nowhere"))
    whole = f"{LINE}\n".encode() * 3 * BATCH_MOST * WAITING_MOST
    task = asyncio.create_task(records.read(pieces(whole)))
    count = 0
    async with asyncio.timeout(20):
        while count < 3 * BATCH_MOST * WAITING_MOST:
            batch = await records.next()
            assert len(batch) <= BATCH_MOST
            count += len(batch)
        await task


@pytest.mark.anyio
async def test_requests_of_nobodys_route_are_dropped() -> None:
    other = LINE.replace("deployments/x", "deployments/y")
    records = Records("/deployments/x".__eq__, Path("/nowhere"))
    await records.read(pieces(f"{other}\n{LINE}\n".encode()))
    assert [one.prefix for one in await records.next()] == ["/deployments/x"]


def test_a_few_are_told_soon_and_many_together() -> None:
    little, much = PAUSES_S
    assert [pause_after(5 * len(LINE), pause) for pause in PAUSES_S] == [little, little]
    assert [pause_after(100 * len(LINE), pause) for pause in (little, 0.005)] == [much, much]
    assert pause_after(1000 * len(LINE), much) < little, "more waits than the socket holds"


@pytest.mark.anyio
async def test_whoever_rests_is_woken_before_haproxy_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not fetched by then would be lost with the former one."""
    monkeypatch.setattr("appliance.router.requests.PAUSES_S", (3600.0, 3600.0))
    records = Records("/deployments/x".__eq__, Path("/nowhere"))
    ours, haproxys = socket.socketpair()
    ours.setblocking(False)
    with haproxys, ours:
        reading = asyncio.create_task(records.read(records._pieces(ours)))
        haproxys.sendall(f"{LINE}\n".encode())
        async with asyncio.timeout(20):
            await records.next()
            haproxys.sendall(f"{LINE}\n".encode())
            records.hurry()
            await records.next()
            haproxys.sendall(f"{LINE}\n".encode())
            await records.next()
        haproxys.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
