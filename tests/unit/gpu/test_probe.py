"""What the child process says of a driver that does not answer, and what it takes for a number."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.gpu import nvml
from appliance.gpu.probe import count_cards, down_line


def device(bus: Path, name: str, vendor: str, kind: str) -> None:
    (bus / name).mkdir(parents=True)
    (bus / name / "vendor").write_text(f"{vendor}\n")
    (bus / name / "class").write_text(f"{kind}\n")


def test_cards_on_the_bus_are_counted_without_a_driver(tmp_path: Path) -> None:
    device(tmp_path, "0000:01:00.0", "0x10de", "0x030000")
    device(tmp_path, "0000:01:00.1", "0x10de", "0x040300")  # its sound
    device(tmp_path, "0000:02:00.0", "0x10de", "0x030200")  # without a display
    device(tmp_path, "0000:03:00.0", "0x8086", "0x030000")
    (tmp_path / "0000:04:00.0").mkdir()
    assert count_cards(tmp_path) == 2
    assert count_cards(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("code", "cards", "present"), [(12, 1, False), (9, 0, False), (9, 1, True), (9, None, True), (18, 0, True)]
)
def test_whether_there_is_a_driver_at_all(code: int, cards: int | None, present: bool) -> None:
    assert down_line(nvml.Down(code, "words"), cards=cards)["present"] is present


@pytest.mark.parametrize("value", [None, True, -1, 2**32 - 1, 2**64 - 1, 2**63, "7", 1.5])
def test_what_is_no_number(value: object) -> None:
    assert nvml.count(value) is None


@pytest.mark.parametrize("value", [0, 1, 2**32, 2**62])
def test_what_is_a_number(value: int) -> None:
    assert nvml.count(value) == value


def test_a_library_that_was_replaced_is_told(tmp_path: Path) -> None:
    library = tmp_path / "libnvidia-ml.so.580.65"
    library.touch()
    maps = tmp_path / "maps"
    maps.write_text(f"7f00-7f01 r--p 00000000 00:31 42    {library}\n")
    found = nvml.Library(maps)
    assert not found.replaced()
    library.unlink()
    assert found.replaced()


def test_no_library_is_never_replaced(tmp_path: Path) -> None:
    assert not nvml.Library(tmp_path / "none").replaced()
