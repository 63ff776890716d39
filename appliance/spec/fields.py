"""Reads typed values out of a tree. A wrong value is noted and its default returned, so that reading goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from appliance.spec.problems import Mark, Problems, quoted
from appliance.spec.tree import Node, child_path, item_path

_READ_TWO_WAYS = {
    "a boolean": re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"),
    "a number": re.compile(
        r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?"
        r"|[1-9][0-9_]*(?::[0-5]?[0-9])+|[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*)",
        re.ASCII,
    ),
    "a date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}.{0,16})?"),
}
"""Texts in YAML 1.2, something else in 1.1; which of the two the user meant is not for us to guess."""
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)([KMGT])i?", re.ASCII)
_POWERS = {"K": 10, "M": 20, "G": 30, "T": 40}
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_DURATION = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def describe(node: Node) -> str:
    """What the user gave, for `must be a string, not ...`."""
    value = node.value
    if value is None:
        return "empty (null)"
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return node.plain or str(value).lower()
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    return f"the number {quoted(node.plain or str(value))}"


def read_text(node: Node, path: str, problems: Problems, *, empty: bool = False, default: str = "") -> str:
    """Numbers, booleans and null are refused, not converted: `3.10` would become `3.1`."""
    value = node.value
    if isinstance(value, str):
        if node.plain and (other := read_two_ways(node.plain)):
            message = f"must be a string, and {quoted(value)} can be read as {other}"
            problems.error(node.mark, path, message, f'write "{value}"')
        elif not value and not empty:
            problems.error(node.mark, path, "must not be empty")
        return value
    hint = ""
    if value is None:
        hint = 'a lone `-` or `key:` is null; write "" for an empty text, or remove it'
    elif not isinstance(value, (dict, list)):
        hint = f'quote it: "{node.plain or describe(node)}"'
    problems.error(node.mark, path, f"must be a string, not {describe(node)}", hint)
    return default


def read_two_ways(plain: str) -> str:
    """What YAML 1.1 takes this text without quotes for, such as `a boolean`; empty: for a text, too."""
    return next((what for what, pattern in _READ_TWO_WAYS.items() if pattern.fullmatch(plain)), "")


def read_number(
    node: Node, path: str, problems: Problems, *, default: float, least: float, most: float, whole: bool = False
) -> float:
    """Within `least` and `most`. With `whole`, the value is an int."""
    value = node.value
    what = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        hint = "remove the quotes" if isinstance(value, str) and not node.plain and value.isdecimal() else ""
        if isinstance(value, str) and node.plain and re.fullmatch(r"[0-9]+(\.[0-9]+)?[eE][0-9]{1,2}", value):
            hint = f"write {float(value):.0f}"
        problems.error(node.mark, path, f"must be {what}, not {describe(node)}", hint)
        return default
    assert isinstance(value, (int, float))
    if _LEADING_ZERO.fullmatch(node.plain):
        message = f"{node.plain} is octal for some YAML readers and decimal for others"
        problems.error(node.mark, path, message, f"write {value}")
    elif not least <= value <= most:
        problems.error(node.mark, path, f"must be {_range(least, most)}, not {value}")
    else:
        return value
    return default


def read_seconds(node: Node, path: str, problems: Problems, *, least: float, most: float) -> float | None:
    """A number of seconds, or a text such as `90s`, `10m`, `2h`, `1d`. None: it is neither, which is noted."""
    value = node.value
    if isinstance(value, str):
        words = _DURATION.fullmatch(value)
        if words is None:
            problems.error(node.mark, path, f"must be a time, not {describe(node)}", "seconds, or such as 10m or 2h")
            return None
        seconds: float = int(words[1]) * _UNITS_S[words[2]]
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        problems.error(node.mark, path, f"must be a time, not {describe(node)}", "seconds, or such as 10m or 2h")
        return None
    else:
        seconds = float(value)
    if least <= seconds <= most:
        return seconds
    problems.error(node.mark, path, f"must be from {show_seconds(least)} to {show_seconds(most)}, not {seconds:g}s")
    return None


def show_seconds(seconds: float) -> str:
    """As a spec has it, such as `90s` or `1h`."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS_S[unit] == 0:
            return f"{seconds / _UNITS_S[unit]:g}{unit}"
    return f"{seconds:g}s"


def read_size(node: Node, path: str, problems: Problems, *, least: int, most: int) -> int | None:
    """Bytes: `512M`, `20Gi`, `1.5T`, powers of 1024 all. None: it is not one, which is noted."""
    size = parse_size(node.value) if isinstance(node.value, str) else None
    if size is None:
        problems.error(
            node.mark, path, f"must be a size, not {describe(node)}", "such as 512M, 20G or 1.5T, in powers of 1024"
        )
        return None
    if least <= size <= most:
        return size
    problems.error(
        node.mark, path, f"must be from {show_size(least)} to {show_size(most)}, not {quoted(str(node.value))}"
    )
    return None


def parse_size(text: str) -> int | None:
    """Bytes of a text such as `512M` or `20Gi`; None: it is no size."""
    found = _SIZE.fullmatch(text)
    return int(float(found[1]) * 2 ** _POWERS[found[2]]) if found else None


def show_size(size: int) -> str:
    """As a spec has it, such as `20G` or `1.5T`; to two digits where it is no round number."""
    for unit, power in reversed(_POWERS.items()):
        if size >= 2**power:
            return f"{size / 2**power:.2f}".rstrip("0").rstrip(".") + unit
    return str(size)


def _range(least: float, most: float) -> str:
    return f"from {least:g} to {most:g}" if most < 1e7 else f"at least {least:g}"


class Fields:
    """The keys of one map. `close` reports the keys that nobody has asked for."""

    def __init__(self, node: Node, path: str, problems: Problems, *, what: str = "a map", hint: str = "") -> None:
        self.mark: Mark = node.mark
        self.path = path
        self.problems = problems
        self._known: dict[str, None] = {}
        self._keys = node.keys
        self._entries: dict[str, Node] = {}
        if isinstance(node.value, dict):
            self._entries = node.value
        else:
            problems.error(node.mark, path, f"must be {what}, not {describe(node)}", hint)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def empty(self) -> bool:
        return not self._entries

    def at(self, key: str) -> str:
        return child_path(self.path, key)

    def key_mark(self, key: str) -> Mark:
        return self._keys.get(key, self.mark)

    def error(self, key: str, message: str, hint: str = "") -> None:
        """A problem with this key's value."""
        node = self._entries.get(key)
        self.problems.error(node.mark if node else self.mark, self.at(key), message, hint)

    def warn(self, key: str, message: str, hint: str = "") -> None:
        self.problems.warn(self.key_mark(key), self.at(key), message, hint)

    def extension(self, key: str, hint: str = "") -> None:
        """This key, where it is given, is ours; `hint` says what to write for Gradient."""
        if key in self:
            self.problems.extension(self.key_mark(key), self.at(key), hint)

    def missing(self, key: str, hint: str = "") -> None:
        self.problems.error(self.mark, self.at(key), "is required", hint)

    def node(self, key: str, *, required: bool = False, hint: str = "") -> Node | None:
        """None: the key is absent. A key without a value is present and null."""
        self._known[key] = None
        found = self._entries.get(key)
        if found is None and required:
            self.missing(key, hint)
        return found

    def text(self, key: str, *, required: bool = False, empty: bool = False, default: str = "", hint: str = "") -> str:
        node = self.node(key, required=required, hint=hint)
        return read_text(node, self.at(key), self.problems, empty=empty, default=default) if node else default

    def choice(self, key: str, options: Sequence[str], *, required: bool = False, default: str = "") -> str:
        before = len(self.problems.errors)
        value = self.text(key, required=required, default=default)
        if value in options or len(self.problems.errors) > before or key not in self:
            return value
        hint = self.problems.nearest(value, options)
        self.error(key, f"must be {_one_of(options)}, not {quoted(value)}", hint)
        return default

    def whole(self, key: str, *, default: int = 0, least: int = 0, most: int = 10**9) -> int:
        node = self.node(key)
        if node is None:
            return default
        path = self.at(key)
        return int(read_number(node, path, self.problems, default=default, least=least, most=most, whole=True))

    def size(self, key: str, *, least: int, most: int) -> int | None:
        """None: absent, or no size, which is noted."""
        node = self.node(key)
        return read_size(node, self.at(key), self.problems, least=least, most=most) if node else None

    def seconds(self, key: str, *, default: float, least: float = 0.0, most: float = 86_400.0) -> float:
        node = self.node(key)
        if node is None:
            return default
        found = read_seconds(node, self.at(key), self.problems, least=least, most=most)
        return default if found is None else found

    def number(self, key: str, *, default: float = 0.0, least: float = 0.0, most: float = 1e9) -> float:
        node = self.node(key)
        if node is None:
            return default
        return float(read_number(node, self.at(key), self.problems, default=default, least=least, most=most))

    def flag(self, key: str, *, default: bool = False) -> bool:
        node = self.node(key)
        if node is None or isinstance(node.value, bool):
            return default if node is None else bool(node.value)
        self.error(key, f"must be true or false, not {describe(node)}", "without quotes")
        return default

    def map(self, key: str, *, required: bool = False, hint: str = "", what: str = "a map") -> Fields | None:
        """None: absent, or no map, which is noted."""
        node = self.node(key, required=required, hint=hint)
        if node is None:
            return None
        fields = Fields(node, self.at(key), self.problems, what=what, hint=hint)
        return fields if isinstance(node.value, dict) else None

    def items(
        self, key: str, *, required: bool = False, hint: str = "", what: str = "a list"
    ) -> list[tuple[str, Node]]:
        """Path and value of each item; a value that is no list is noted."""
        node = self.node(key, required=required, hint=hint)
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.error(key, f"must be {what}, not {describe(node)}", hint)
            return []
        return [(item_path(self.at(key), index), item) for index, item in enumerate(node.value)]

    def texts(self, key: str, *, hint: str = "") -> tuple[str, ...] | None:
        """None: absent. Items may be empty strings, as a command's arguments may."""
        if key not in self:
            self._known[key] = None
            return None
        items = self.items(key, what="a list of strings", hint=hint)
        return tuple(read_text(item, path, self.problems, empty=True) for path, item in items)

    def entries(self) -> Iterator[tuple[str, str, Mark, Node]]:
        """Name, path, place of the name, and value of each entry of a map whose keys the user chooses."""
        for name, node in self._entries.items():
            self._known[name] = None
            yield name, self.at(name), self.key_mark(name), node

    def close(self, hints: Mapping[str, str] | None = None) -> None:
        """Report the unknown keys; `hints` says what to write in place of a key that is common elsewhere."""
        for key in self._entries:
            if key in self._known or self.problems.full:
                continue
            hint = (hints or {}).get(key) or self.problems.nearest(key, self._known)
            hint = hint or f"known here: {', '.join(sorted(self._known))}"
            self.problems.error(self.key_mark(key), self.at(key), f"unknown key {quoted(key)}", hint)


def _one_of(options: Sequence[str]) -> str:
    names = [quoted(option) for option in options]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
