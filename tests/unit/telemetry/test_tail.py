from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.telemetry.tail import BLOCK, MOST_OPEN, Position, Tail
from tests.support.descriptors import open_below
from tests.unit.telemetry.enginelog import EngineLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c0" / "c0-json.log"


@pytest.fixture
def engine(path: Path) -> Iterator[EngineLog]:
    log = EngineLog(path)
    yield log
    log.close()


def lines(block: bytes) -> list[str]:
    return [json.loads(line)["log"].rstrip("\n") for line in block.splitlines()]


def read_all(tail: Tail, *, final: bool = False) -> list[str]:
    found: list[str] = []
    while tail.poll() and (block := tail.read(final=final)):
        found += lines(block)
    return found


def write(engine: EngineLog, *numbers: int) -> None:
    for number in numbers:
        engine.record(f"{number}\n")


def numbers(*wanted: int) -> list[str]:
    return [str(number) for number in wanted]


def test_whole_records_only(engine: EngineLog, path: Path) -> None:
    write(engine, 1)
    engine.write(b'{"log":"2\\n"')
    tail = Tail(path)
    assert read_all(tail) == ["1"]
    engine.write(b"}\n")
    assert read_all(tail) == ["2"]
    assert not tail.poll()
    tail.close()


def test_a_record_that_was_never_finished_comes_at_the_end(engine: EngineLog, path: Path) -> None:
    engine.write(b'{"log":"half"')
    tail = Tail(path)
    assert tail.poll()
    assert tail.read() == b""
    assert tail.read(final=True) == b'{"log":"half"\n'
    tail.close()


def test_a_log_that_does_not_exist_yet(path: Path) -> None:
    tail = Tail(path)
    assert not tail.poll()
    assert not tail.found
    engine = EngineLog(path)
    write(engine, 1)
    assert read_all(tail) == ["1"]
    engine.close()
    tail.close()


def test_across_rotation(engine: EngineLog, path: Path) -> None:
    tail = Tail(path)
    write(engine, 1)
    assert read_all(tail) == ["1"]
    write(engine, 2)
    engine.rotate()
    write(engine, 3)
    engine.rotate()
    write(engine, 4)
    assert read_all(tail) == numbers(2, 3, 4)
    assert tail.gaps == 0
    tail.close()


def test_files_removed_by_rotation_are_still_read(engine: EngineLog, path: Path) -> None:
    tail = Tail(path)
    for number in range(10):
        write(engine, number)
        engine.rotate()
        tail.poll()
    assert read_all(tail) == numbers(*range(10))
    assert tail.gaps == 0
    tail.close()


def test_an_attach_late_begins_with_the_oldest_file(engine: EngineLog, path: Path) -> None:
    write(engine, 1)
    engine.rotate()
    write(engine, 2)
    engine.rotate()
    write(engine, 3)
    tail = Tail(path)
    assert read_all(tail) == numbers(1, 2, 3)
    tail.close()


def test_what_is_gone_before_it_was_read_is_told(engine: EngineLog, path: Path) -> None:
    write(engine, 1)
    tail = Tail(path)
    assert read_all(tail) == ["1"]
    for number in range(2, 7):
        write(engine, number)
        engine.rotate()
    assert read_all(tail) == numbers(2, 5, 6)  # 2 was held open; 3 and 4 went with the third file
    assert tail.gaps == 1
    tail.close()


def test_only_so_many_files_are_held(engine: EngineLog, path: Path) -> None:
    tail = Tail(path)
    for number in range(MOST_OPEN + 20):
        write(engine, number)
        tail.poll()
        engine.rotate()
    assert len(open_below(path.parent)) <= MOST_OPEN + 1
    found = read_all(tail)
    assert found[:MOST_OPEN] == numbers(*range(MOST_OPEN))
    assert tail.gaps == 1
    tail.close()
    assert len(open_below(path.parent)) <= 1, "only the writer has its own open"


def test_a_log_emptied_in_place_is_read_from_its_beginning(engine: EngineLog, path: Path) -> None:
    write(engine, 1, 2, 3)
    tail = Tail(path)
    read_all(tail)
    os.truncate(path, 0)
    write(engine, 4)
    assert read_all(tail) == ["4"]
    assert tail.gaps == 1
    tail.close()


def test_a_removed_container_is_read_to_its_end(engine: EngineLog, path: Path) -> None:
    write(engine, 1)
    tail = Tail(path)
    tail.poll()
    write(engine, 2)
    path.unlink()
    path.parent.rmdir()
    assert not tail.removed
    assert read_all(tail) == numbers(1, 2)
    assert tail.removed
    tail.close()


def resumed(tail: Tail, path: Path) -> Tail:
    position = tail.position
    tail.close()
    return Tail(path, position)


def test_resume(engine: EngineLog, path: Path) -> None:
    write(engine, 1)
    tail = Tail(path)
    assert read_all(tail) == ["1"]
    tail = resumed(tail, path)
    assert read_all(tail) == []
    write(engine, 2)
    assert read_all(tail) == ["2"]
    assert tail.gaps == 0
    tail.close()


def test_resume_in_a_rotated_file(engine: EngineLog, path: Path) -> None:
    write(engine, 1)
    tail = Tail(path)
    read_all(tail)
    write(engine, 2)
    engine.rotate()
    write(engine, 3)
    tail = resumed(tail, path)
    assert read_all(tail) == numbers(2, 3)
    assert tail.gaps == 0
    tail.close()


def test_resume_is_not_fooled_by_an_inode_that_is_used_again(engine: EngineLog, path: Path) -> None:
    write(engine, 1, 2)
    tail = Tail(path)
    read_all(tail)
    assert tail.position is not None
    forged = Position(tail.position.inode, tail.position.offset, b'"time":"2020-01-01T00:00:00.000000001Z"}\n')
    tail.close()
    tail = Tail(path, forged)
    assert read_all(tail) == numbers(1, 2)
    assert tail.gaps == 1
    tail.close()


def test_resume_in_a_copied_log(engine: EngineLog, path: Path, tmp_path: Path) -> None:
    write(engine, 1)
    tail = Tail(path)
    read_all(tail)
    write(engine, 2)
    copy = tmp_path / "copy.log"
    copy.write_bytes(path.read_bytes())
    tail = resumed(tail, copy)
    assert read_all(tail) == ["2"]
    tail.close()


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x\n")
    path.parent.mkdir()
    path.symlink_to(secret)
    with pytest.raises(OSError, match=r"symbolic|links"):
        Tail(path).poll()


def test_bytes_without_any_newline_end(engine: EngineLog, path: Path) -> None:
    engine.write(b"x" * (3 * BLOCK + 5))
    write(engine, 1)
    tail = Tail(path)
    size = 0
    while tail.poll() and (block := tail.read()):
        size += len(block)
    assert size > 3 * BLOCK
    assert not tail.poll()
    tail.close()


STEPS = st.lists(st.sampled_from(["write", "write", "write", "rotate", "read", "read", "poll", "resume"]), max_size=40)


@settings(deadline=None, max_examples=150)
@given(steps=STEPS)
def test_every_line_once_and_in_order(steps: list[str]) -> None:
    """As long as no more files vanish between two looks than the engine keeps, whatever else happens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.log"
        engine, tail = EngineLog(path, max_file=3), Tail(path)
        written = 0
        unseen = 0
        found: list[str] = []
        for step in steps:
            if step == "write":
                write(engine, written)
                written += 1
            elif step == "rotate" and unseen < 2:
                engine.rotate()
                unseen += 1
            elif step == "read":
                if tail.poll():
                    found += lines(tail.read())
                unseen = 0
            elif step == "poll":
                tail.poll()
                unseen = 0
            elif step == "resume":
                found += read_all(tail)  # what is held open is lost with the process
                tail = resumed(tail, path)
                unseen = 0
        found += read_all(tail, final=True)
        engine.close()
        tail.close()
        assert found == numbers(*range(written))
        if "resume" not in steps:  # a file that was read to its end and then removed cannot be told from a loss
            assert tail.gaps == 0
