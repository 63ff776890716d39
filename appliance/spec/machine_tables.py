"""The tables `[machines.NAME]` of config.toml: machine types of one's own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from appliance.errors import UsageError
from appliance.spec.fields import parse_size, show_size
from appliance.spec.lease import LEAST_PRIORITY, MOST_PRIORITY
from appliance.spec.machines import Shape, known
from appliance.spec.problems import did_you_mean, printable, quoted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,62}", re.ASCII)
PROFILE = re.compile(r"(?:[1-9]c\.)?[1-9]g\.[1-9][0-9]{0,3}gb(?:\+[a-z]+(?:\.[a-z]+)?)*", re.ASCII)
MOST_GPUS = 64
MOST_CPUS = 4096
LEAST_SIZE, MOST_SIZE = 1 << 20, 1 << 50
LEAST_MEMORY = 16 << 20
"""With less no program of use begins; the engine refuses less than 6 MiB."""
LONGEST_MODEL = 100
KEYS = ("also", "cpus", "gpus", "least", "memory", "mig", "model", "preemptible", "priority", "share", "shm")
_OF_GPUS = ("least", "mig", "model", "share")


def read_machines(tables: Mapping[str, object], where: str, *, default: str = "") -> dict[str, Shape]:
    """Shapes by name, and by each name under `also`. Raises UsageError that names the file, the table and the key.

    `default`: the machine type of what names one that nobody knows; empty: there is none.
    """
    readings = {name: _Table(name, table, where) for name, table in tables.items()}
    found = {name: reading.shape() for name, reading in readings.items()}
    for name, reading in readings.items():
        for other in reading.also():
            if other in found:
                raise reading.wrong("also", f"{quoted(other)} is the name of a machine type already")
            found[other] = found[name]
    if default and not known(default, found):
        raise UsageError(
            f"setting machine: {quoted(printable(default))} is no machine type",
            where=where,
            hint=f"write a table [machines.{printable(default)}], or a name that `appliance get machines` lists",
        )
    return found


class _Table:
    def __init__(self, name: str, table: object, where: str) -> None:
        self._name = name
        self._where = where
        self._values: Mapping[str, object] = table if isinstance(table, dict) else {}
        if not NAME.fullmatch(name):
            raise self.wrong("", "cannot be a machine type's name", "1 to 63 letters a-z and A-Z, digits and `.+_-`")
        if not isinstance(table, dict):
            raise self.wrong("", "must be a table", f"such as [machines.{name}] with gpus = 1 below it")
        if unknown := sorted(set(self._values) - set(KEYS)):
            raise self.wrong(unknown[0], "unknown key", did_you_mean(unknown[0], KEYS) or f"keys: {', '.join(KEYS)}")

    def wrong(self, key: str, message: str, hint: str = "") -> UsageError:
        place = ".".join(filter(None, ("machines", printable(self._name), printable(key))))
        return UsageError(f"{place}: {message}", where=self._where, hint=hint or f"keys: {', '.join(KEYS)}")

    def shape(self) -> Shape:
        values = self._values
        asks = any(key in values for key in _OF_GPUS)
        shape = Shape(
            gpus=self._whole("gpus", 1 if asks else 0, 0, MOST_GPUS),
            mig=self._text("mig"),
            share=self._size("share") or 0,
            least=self._size("least") or 0,
            model=self._text("model"),
            cpus=self._cpus(),
            memory=self._size("memory", LEAST_MEMORY) or 0,
            shm=self._size("shm"),
            preemptible=self._flag("preemptible"),
            priority=self._whole("priority", 0, LEAST_PRIORITY, MOST_PRIORITY),
        )
        if asks and not shape.gpus:
            key = next(key for key in _OF_GPUS if key in values)
            raise self.wrong(key, "says something of a GPU, and gpus is 0", "remove one of the two")
        if shape.mig and not PROFILE.fullmatch(shape.mig):
            raise self.wrong(
                "mig", f"{quoted(shape.mig)} is no profile", 'such as "1g.10gb", as `nvidia-smi -L` has it'
            )
        if shape.mig and shape.gpus > 1:
            raise self.wrong("gpus", "CUDA sees one instance only", "remove gpus, or mig")
        if shape.mig and shape.share:
            raise self.wrong("share", "an instance is a part already, whose memory is its own", "remove share")
        if shape.share and shape.gpus > 1:
            raise self.wrong("gpus", "a share is of one GPU", "remove gpus, or share")
        if len(shape.model) > LONGEST_MODEL:
            raise self.wrong("model", f"is longer than {LONGEST_MODEL} characters")
        return shape

    def also(self) -> Iterable[str]:
        names = self._values.get("also", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.wrong("also", "must be a list of names", 'such as ["P4000", "Free-GPU"]')
        for name in dict.fromkeys(names):
            if not NAME.fullmatch(name):
                raise self.wrong("also", f"{quoted(printable(name))} cannot be a machine type's name")
        return dict.fromkeys(names)

    def _whole(self, key: str, default: int, least: int, most: int) -> int:
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(key, f"must be a whole number from {least} to {most}, not {_shown(value)}")
        return value

    def _cpus(self) -> float:
        value = self._values.get("cpus", 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.wrong("cpus", f"must be a number, not {_shown(value)}")
        if "cpus" in self._values and not 0.01 <= value <= MOST_CPUS:
            raise self.wrong("cpus", f"must be from 0.01 to {MOST_CPUS}, not {_shown(value)}", "remove it: no limit")
        return float(value)

    def _size(self, key: str, least: int = LEAST_SIZE) -> int | None:
        """Bytes; None: it is not given."""
        value = self._values.get(key)
        if value is None:
            return None
        size = parse_size(value.removesuffix("B")) if isinstance(value, str) else None
        if size is None:
            raise self.wrong(key, f"must be a size, not {_shown(value)}", 'such as "16G" or "512M", powers of 1024')
        if not least <= size <= MOST_SIZE:
            raise self.wrong(key, f"must be from {show_size(least)} to {show_size(MOST_SIZE)}, not {_shown(value)}")
        return size

    def _text(self, key: str) -> str:
        value = self._values.get(key, "")
        if not isinstance(value, str) or (key in self._values and not value.strip()):
            raise self.wrong(key, f"must be a text, not {_shown(value)}")
        return value

    def _flag(self, key: str) -> bool:
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, f"must be true or false, not {_shown(value)}")
        return value


def _shown(value: object) -> str:
    return quoted(printable(str(value)))
