"""Asking NVML. The only module that calls it: answers are values or None, and failures are of a card or of the driver.

Every call blocks, and may never return where a card has died: only the child process (`probe`) calls this.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pynvml

UNKNOWN = 999
LOST = {
    15: "has fallen off the bus or is inaccessible",
    16: "needs a reset",
    28: "is not found by the driver any more",
}
"""Codes of a card that is gone for now, and what to say of it."""
DRIVER = {
    1: "the driver was unloaded or reloaded",
    9: "NVIDIA's library is here and its kernel module is not loaded: load it (`modprobe nvidia`), or restart"
    " the machine",
    18: "the NVIDIA driver was upgraded and the old kernel module still runs: restart the machine, or reload the module"
    " while nothing uses a GPU",
}
"""Codes of the driver as a whole."""
ABSENT = 12
NOT_LOADED = 9
LIBRARY = "libnvidia-ml.so"


Refused: Any = pynvml.NVMLError
"""Any failure that NVML has a number for."""


class Lost(Exception):
    """A card does not answer. Its text says why, so that `GPU 3` may stand before it."""


class Down(Exception):
    """The driver as a whole does not answer. `code` is NVML's."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


def begin() -> None:
    """Raises Down; its code is ABSENT where there is no NVIDIA driver at all."""
    try:
        pynvml.nvmlInitWithFlags(0)
    except pynvml.NVMLError as error:
        raise _down(error) from None


def call(name: str, *arguments: Any) -> Any:
    """Raises Lost, Down, pynvml.NVMLError; where neither wrapper nor library has the function: NVMLError."""
    function = getattr(pynvml, name, None)
    if function is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    try:
        return function(*arguments)
    except pynvml.NVMLLibraryMismatchError:  # no NVMLError
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND) from None
    except pynvml.NVMLError as error:
        if error.value in LOST:
            raise Lost(f"{LOST[error.value]} (NVML {error.value})") from None
        if error.value in DRIVER:
            raise _down(error) from None
        raise


class Handle:
    """A card or an instance of one, to be asked."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.unknown = 0
        """How many questions were answered with an unknown error: some fail so by nature, all only on a dead card."""

    def ask(self, name: str, *arguments: Any) -> Any:
        """None: it is not told here. Raises Lost, Down."""
        try:
            return call(name, self.handle, *arguments)
        except pynvml.NVMLError as error:
            self.unknown += error.value == UNKNOWN
        except ValueError:  # a name that is no text
            pass
        return None

    def first(self, names: Sequence[str], *arguments: Any) -> Any:
        """The first of several names of one question that is answered; drivers gain and lose them."""
        return next((found for name in names if (found := self.ask(name, *arguments)) is not None), None)

    def busy(self, since: int) -> list[Any] | None:
        """Samples of processes since then, in the driver's microseconds; empty: nobody computed; None: not told."""
        for _ in range(2):  # one that began between the two questions that this is makes it fail
            try:
                return list(call("nvmlDeviceGetProcessUtilization", self.handle, since))
            except pynvml.NVMLError as error:
                if error.value in (pynvml.NVML_SUCCESS, pynvml.NVML_ERROR_NOT_FOUND):
                    return []
                if error.value != pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
                    return None
        return None

    def field(self, number: int) -> int | None:
        """One of NVML's numbered values."""
        values = self.ask("nvmlDeviceGetFieldValues", [number])
        if not values or values[0].nvmlReturn != 0:
            return None
        kind, value = values[0].valueType, values[0].value
        return int({1: value.uiVal, 2: value.ulVal, 3: value.ullVal, 4: value.sllVal, 5: value.siVal}.get(kind, 0))


def tell(name: str, *arguments: Any) -> Any:
    """What a function of no card says; None: nothing."""
    try:
        return call(name, *arguments)
    except (pynvml.NVMLError, ValueError, Lost):
        return None


def text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def count(value: Any, most: int = 2**63) -> int | None:
    """None also for the largest of its kind, which is how NVML spells that it has no number."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < most or value == 2**32 - 1:
        return None
    return value


class Library:
    """The file that was loaded, to be told when an upgrade has put another in its place."""

    def __init__(self, maps: Path = Path("/proc/self/maps")) -> None:
        try:
            lines = maps.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        self._path = next((line.split(maxsplit=5)[5] for line in lines if LIBRARY in line and "/" in line), "")
        self._file = self._look()

    def replaced(self) -> bool:
        return bool(self._path) and self._look() != self._file

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _down(error: Any) -> Down:
    code = int(error.value)
    if code == ABSENT:
        return Down(code, "no NVIDIA driver: everything but GPUs works")
    return Down(code, DRIVER.get(code) or f"the NVIDIA driver does not answer: {error}; see `nvidia-smi`")
