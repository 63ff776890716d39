"""Builds the stub libnvidia-ml.so.1 and writes its script: cards that the real nvidia-ml-py finds where there are none.

A program loads it when `Stub.environment` is among its variables. What it answers can change while it runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("stub.c")
GIB = 2**30
LIBRARY = "libnvidia-ml.so.1"


def build(folder: Path, *options: str) -> Path:
    """The folder, with the library in it. Skips the test, saying so, where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("tcc")
    if not compiler:
        pytest.skip("no C compiler here (cc, gcc or tcc): the NVML stub cannot be built")
    argv = [compiler, "-shared", "-fPIC", "-O1", f"-Wl,-soname,{LIBRARY}", "-o", str(folder / LIBRARY), str(SOURCE)]
    subprocess.run([*argv, *options, "-lpthread"], check=True, capture_output=True, text=True)
    return folder


def value(one: object) -> str:
    return "na" if one is None else str(one).replace(" ", "_")


def line(*place: object, **values: object) -> str:
    return " ".join([*map(str, place), *(f"{key}={value(one)}" for key, one in values.items())])


A100: dict[str, object] = {
    "name": "NVIDIA A100-SXM4-40GB",
    "memory": 40 * GIB,
    "used": GIB,
    "reserved": GIB // 2,
    "util": 50,
    "memory_util": 20,
    "power": 200_500,
    "power_limit": 400_000,
    "energy": 5_000_000,
    "temperature": 55,
    "sm_clock": 1410,
    "memory_clock": 1215,
    "reasons": 0,
    "ecc_corrected": 0,
    "ecc_uncorrected": 0,
    "remap_pending": 0,
    "remap_failed": 0,
    "recovery": 0,
    "pcie_gen": 4,
    "pcie_width": 16,
    "pcie_gen_most": 4,
    "pcie_width_most": 16,
    "fan": None,
    "persistence": 1,
    "mig": 0,
    "mig_most": 7,
}
"""What a card of a server tells; milliwatts, millijoules, bytes, MHz, as NVML counts."""


def uuid(index: int) -> str:
    return f"GPU-{index:08d}-0000-4000-8000-000000000000"


def mig_uuid(card: int, slot: int) -> str:
    return f"MIG-{card:08d}-{slot:04d}-5000-8000-000000000000"


def card(index: int, **other: object) -> str:
    own = {"uuid": uuid(index), "minor": index, "bus": f"00000000:{index + 1:02X}:00.0", "serial": f"13200{index}"}
    return line("gpu", index, **{**own, **A100, **other})


def instance(index: int, slot: int, *, gi: int, profile: str = "1g.5gb", **other: object) -> str:
    own = {"uuid": mig_uuid(index, slot), "name": f"NVIDIA A100-SXM4-40GB MIG {profile}", "gi": gi, "ci": 0}
    return line("mig", index, slot, **{**own, "memory": 5 * GIB, "used": GIB // 4, "slices": 1, **other})


class Stub:
    """One script. `tell` replaces it, `add` puts lines behind."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.path = folder / "nvml.script"
        self.library = library
        self.tell()

    def tell(self, *lines: str, driver: str = "580.65.06", cuda: int = 13000) -> None:
        """Of a sudden, as a whole."""
        self.lines = [line("driver", version=driver, cuda=cuda), *lines]
        self._write()

    def add(self, *lines: str) -> None:
        self.lines += lines
        self._write()

    def drop(self, *lines: str) -> None:
        self.lines = [one for one in self.lines if one not in lines]
        self._write()

    def _write(self) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text("\n".join(self.lines) + "\n")
        fresh.replace(self.path)

    @property
    def variables(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": str(self.library), "APPLIANCE_STUB_NVML": str(self.path)}

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables}


def without_library(folder: Path) -> dict[str, str]:
    """Variables of a program that finds no NVML, also on a machine that has one: the first it meets is no library."""
    (folder / LIBRARY).touch()
    return {"LD_LIBRARY_PATH": str(folder)}
