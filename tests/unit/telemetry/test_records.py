from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.telemetry.records import LONGEST, Joiner, last_state
from appliance.telemetry.redact import MASK, Redactor
from tests.unit.telemetry.enginelog import EngineLog

NONE = Redactor()


def record(text: str, stream: str = "stdout", time: str = "2025-01-02T03:04:05.123456789Z") -> bytes:
    return json.dumps({"log": text, "stream": stream, "time": time}).encode() + b"\n"


def texts(joiner: Joiner, block: bytes, redactor: Redactor = NONE) -> list[str]:
    return [text for _, _, text in joiner.feed(block, redactor)]


def test_a_record_is_a_line() -> None:
    [(at, is_error, text)] = Joiner().feed(record("hello\n", "stderr"), NONE)
    assert at.isoformat() == "2025-01-02T03:04:05.123456"
    assert is_error
    assert text == "hello"


@pytest.mark.parametrize("time", ["2025-01-02T03:04:05Z", "2025-01-02T03:04:05.1Z", "2025-01-02T05:04:05.12+02:00"])
def test_times_as_the_engine_writes_them(time: str) -> None:
    joiner = Joiner()
    [(at, _, _)] = joiner.feed(record("x\n", time=time), NONE)
    assert at.isoformat().startswith("2025-01-02T03:04:05")
    assert joiner.damaged == 0


def test_pieces_are_joined_per_stream() -> None:
    joiner = Joiner()
    block = record("out 1, ") + record("err 1, ", "stderr") + record("out 2\n") + record("err 2\n", "stderr")
    assert texts(joiner, block) == ["out 1, out 2", "err 1, err 2"]


def test_a_whole_line_passes_an_unfinished_one_of_the_other_stream() -> None:
    joiner = Joiner()
    assert texts(joiner, record("prompt: ") + record("warning\n", "stderr")) == ["warning"]
    assert texts(joiner, record("answer\n")) == ["prompt: answer"]


def test_unfinished_lines_survive_the_process() -> None:
    first = Joiner()
    assert texts(first, record("one, ") + record("e1, ", "stderr")) == []
    second = Joiner(first.pending(NONE))
    assert texts(second, record("two\n")) == ["one, two"]
    assert [text for _, _, text in second.finish(NONE)] == ["e1, "]
    assert second.pending(NONE) == ""


def test_a_line_above_the_cap_goes_on_in_a_further_one() -> None:
    joiner = Joiner()
    piece = "x" * 16_384
    lines = [line for _ in range(65) for line in texts(joiner, record(piece))]
    lines += texts(joiner, record("end\n"))
    assert len(lines) == 2
    assert "".join(lines) == piece * 65 + "end"
    assert max(map(len, lines)) <= LONGEST + 16_384


def test_a_secret_across_pieces_is_blanked_out() -> None:
    joiner = Joiner()
    block = record("the pass") + record("word is hunter2!\n")
    assert texts(joiner, block, Redactor(["password is hunter2"])) == [f"the {MASK}!"]


def test_a_secret_across_the_cap_is_blanked_out() -> None:
    joiner = Joiner()
    secret = "s3cr3t-" * 4
    lines = texts(joiner, record("x" * (LONGEST - 10) + secret[:12]), Redactor([secret]))
    lines += texts(joiner, record(secret[12:] + "y\n"), Redactor([secret]))
    assert "".join(lines) == "x" * (LONGEST - 10) + MASK + "y"


def test_an_unfinished_line_is_stored_without_secrets() -> None:
    joiner = Joiner()
    joiner.feed(record("token: hunter2-hunter2"), NONE)
    assert "hunter2" not in joiner.pending(Redactor(["hunter2-hunter2"]))


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("10%\r20%\r30%", "30%"),
        ("10%\r20%\r", "20%"),
        ("done\r", "done"),
        ("\r", ""),
        ("\r\x1b[K100%", "\x1b[K100%"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
    ],
)
def test_a_progress_bar_keeps_its_last_state(printed: str, shown: str) -> None:
    assert last_state(printed) == shown
    assert texts(Joiner(), record(printed + "\n")) == [shown]


def test_a_progress_bar_in_pieces_stays_small() -> None:
    joiner = Joiner()
    for step in range(3000):
        assert texts(joiner, record(f"\r{step} of 3000 " + "#" * 1000)) == []
    assert len(joiner.pending(NONE)) < 3000
    assert texts(joiner, record("\r")) == []
    assert texts(joiner, record("\n")) == ["2999 of 3000 " + "#" * 1000]


@pytest.mark.parametrize(
    "block",
    [
        b"garbage\n",
        b'{"log":"cut \n',
        b'{"log":"cut{"log":"whole\\n","stream":"stdout","time":"2025-01-02T03:04:05Z"}\n',
        b'{"log":null,"stream":"stdout","time":"2025-01-02T03:04:05Z"}\n',
        b'{"log":"x\\n","stream":"stdout","time":"yesterday"}\n',
        b'{"log":"x\\n"}\n',
        b"[1,2]\n",
        b"12\n",
        b"\xff\xfe\n",
        b'{"log":"bad \xff utf\\n","stream":"stdout","time":"2025-01-02T03:04:05Z"}\n',
        b'{"log":"lone \\ud800\\n","stream":"stdout","time":"2025-01-02T03:04:05Z"}\n',
    ],
)
def test_a_damaged_record_keeps_what_can_be_read_and_harms_no_other(block: bytes) -> None:
    joiner = Joiner()
    lines = texts(joiner, record("before\n") + block + record("after\n"))
    assert lines[0] == "before"
    assert lines[-1] == "after"
    assert len(lines) > 2
    for line in lines:
        line.encode()


def test_what_a_power_cut_leaves_is_passed_over() -> None:
    joiner = Joiner()
    assert texts(joiner, record("before\n") + b"\0" * 500 + b"\n" + record("after\n")) == ["before", "after"]
    assert joiner.damaged == 1


def test_a_log_that_begins_damaged_has_the_time_of_what_follows() -> None:
    lines = Joiner().feed(b"junk\n" + record("one\n") + b"more\n", NONE)
    assert [text for _, _, text in lines] == ["junk", "one", "more"]
    assert {at.year for at, _, _ in lines} == {2025}
    assert Joiner().feed(b"junk\n", NONE)[0][0].year == 1970


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        ("\x1b[1;31merror\x1b[0m: x\n", "\x1b[1;31merror\x1b[0m: x"),
        ("nul \x00 inside\n", "nul \x00 inside"),
        ("windows\r\n", "windows"),
        ("\r\n", ""),
        ("  0%|   |\r 50%|#  |\r100%|###|\r\n", "100%|###|"),
        ("\x1b[2K\r\x1b[2Kstep 2\n", "\x1b[2Kstep 2"),
        (
            "bell \a back\b vertical \v form \f line \u2028 next \x85\n",
            "bell \a back\b vertical \v form \f line \u2028 next \x85",
        ),
        ("tab\t\U0001f600 \ufffd\n", "tab\t\U0001f600 \ufffd"),
    ],
)
def test_what_programs_print(printed: str, line: str) -> None:
    assert texts(Joiner(), record(printed)) == [line]


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data: bytes) -> None:
    joiner = Joiner()
    for line in texts(joiner, data + b"\n"):
        line.encode()


LINES = st.lists(
    st.tuples(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
            max_size=60,
        ),
        st.booleans(),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(lines=LINES, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_however_lines_are_cut_they_come_back(lines: list[tuple[str, bool]], sizes: list[int]) -> None:
    joiner = Joiner()
    came: dict[bool, list[str]] = {False: [], True: []}
    cut = 0
    for text, is_error in lines:
        rest = text + "\n"
        while rest:
            size = sizes[cut % len(sizes)]
            cut += 1
            for _, error, line in joiner.feed(record(rest[:size], "stderr" if is_error else "stdout"), NONE):
                came[error].append(line)
            rest = rest[size:]
            joiner = Joiner(joiner.pending(NONE))  # the process is replaced after every piece
    for stream in (False, True):
        assert came[stream] == [text for text, is_error in lines if is_error is stream]


def test_the_stand_in_engine_cuts_as_the_real_one(tmp_path: Path) -> None:
    engine = EngineLog(tmp_path / "x.log")
    engine.print("y" * 50_001 + "\n")
    engine.close()
    block = (tmp_path / "x.log").read_bytes()
    assert block.count(b"\n") == 4
    assert texts(Joiner(), block) == ["y" * 50_001]
