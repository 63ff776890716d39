"""YAML text into trees, from the parser's events: YAML 1.2 core schema, no tags, positions, and hard limits.

The tree is built here and not by the library's composer, because a composer recurses, resolves `022` and dates in its
own way, and copies what an alias bomb multiplies. A number is what both YAML 1.2 and 1.1 take for one: Gradient's own
client reads 1.1, where `1e-4` is a text, and people write `--lr 1e-4` without quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import Scanner

from appliance.spec.problems import START, Mark, Problems, mark_at, quoted
from appliance.spec.tree import (
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_NODES,
    SPLIT_IT,
    TOO_DEEP,
    TOO_LARGE,
    Document,
    Node,
    Refused,
    Scalar,
    child_path,
    item_path,
    wrong_value,
)

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0[0-7]*|[1-9][0-9]*)|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"(?:\.[0-9]+|[-+]?[0-9]+\.[0-9]*)(?:[eE][-+][0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_STRING_TAGS = ("!", "tag:yaml.org,2002:str")
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_MERGE = "<<"
_LONG_TAG = re.compile(r"(?:^|[\s\[{,])(![^\s]{1000})", re.MULTILINE)
"""The library takes quadratic time for a tag."""
MAX_DOCUMENTS = 100


def read_yaml(text: str, file: str) -> list[Document]:
    """Every document of the text; the last one has no root where the text cannot be read to its end."""
    documents: list[Document] = []
    problems = Problems(file)
    builder = _Builder(problems)
    try:
        for event in _events(text):
            if isinstance(event, DocumentStartEvent):
                problems = Problems(file)
                builder = _Builder(problems)
                if len(documents) == MAX_DOCUMENTS:
                    raise Refused(_mark(event.start_mark), "", f"holds more than {MAX_DOCUMENTS} documents", SPLIT_IT)
            elif isinstance(event, DocumentEndEvent):
                documents.append(Document(builder.root, problems))
            else:
                builder.take(event)
    except Refused as refused:
        refused.add_to(problems)
        documents.append(Document(None, problems))
    return documents


def resolve(text: str) -> Scalar:
    """What an unquoted scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        # The interpreter refuses to convert very long numbers; any of them is beyond what is accepted here.
        return int(text, 16 if text[:2] == "0x" else 10) if len(text) < 30 else MAX_INTEGER + 1
    if _FLOAT.fullmatch(text):
        return float(text)
    return float("nan") if _NOT_FINITE.fullmatch(text) else text


def _events(text: str) -> Iterator[Any]:
    if long := _LONG_TAG.search(text):
        raise Refused(mark_at(text, long.start(1)), "", "not valid YAML: a tag of more than 1000 characters")
    try:
        yaml = YAML(typ="safe", pure=True, plug_ins=[])
        yaml.Scanner = _Scanner
        yield from yaml.parse(text)
    except Refused:
        raise
    except MarkedYAMLError as error:
        raise _syntax(error) from None
    except ReaderError as error:
        mark = mark_at(text, error.position)
        raise Refused(mark, "", f"not valid YAML: the character {error.character!a} is not allowed") from None
    except Exception as error:  # the library meets hostile text with errors of every type
        raise Refused(START, "", f"not valid YAML: {error}") from None


def _syntax(error: MarkedYAMLError) -> Refused:
    mark = _mark(error.problem_mark or error.context_mark)
    words = ", ".join(part for part in (error.context, error.problem) if part)
    hint = ""
    if "'\\t'" in words:
        hint = "indent with spaces; YAML does not allow tabs there"
    elif "could not find expected ':'" in words:
        hint = "a line left of the text of a `|` block ends the block, a comment too"
    elif "mapping values are not allowed" in words:
        hint = "check the indentation, and quote a text that contains `: `"
    elif "expected <block end>" in words:
        hint = "check the indentation: keys of one map start in the same column"
    return Refused(mark, "", f"not valid YAML: {words}", hint)


def _mark(place: Any) -> Mark:
    return Mark(place.line + 1, place.column + 1) if place else START


@dataclass(slots=True)
class _Frame:
    """A list or map that is not complete yet."""

    node: Node
    anchor: str | None
    key: str | None = None
    key_mark: Mark = START
    merge: bool = False
    """The pending key is an unquoted `<<`."""
    merges: list[Node] = field(default_factory=list)


class _Scanner(Scanner):
    def scan_block_scalar_indentation(self) -> Any:
        """Line ends, columns and the mark after the blank lines at the start of a block.

        The library's own refuses a blank line of fewer spaces than the text has, which editors leave behind and YAML
        allows (example 8.2 of its specification).
        """
        reader = self.reader
        ends, indent, mark = [], 0, reader.get_mark()
        while (letter := reader.peek()) in " \r\n\x85\u2028\u2029":
            if letter == " ":
                reader.forward()
                indent = max(indent, reader.column)
            else:
                ends.append(self.scan_line_break())
                mark = reader.get_mark()
        return ends, indent, mark


class _Builder:
    """Builds one document; iterative, so that nesting costs no stack."""

    def __init__(self, problems: Problems) -> None:
        self.root: Node | None = None
        self._problems = problems
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node | None] = {}
        self._count = 0

    def take(self, event: Any) -> None:
        mark = _mark(event.start_mark)
        if isinstance(event, NodeEvent):
            self._count += 1
            if self._count > MAX_NODES:
                raise Refused(mark, self._path(), TOO_LARGE, SPLIT_IT)
        if isinstance(event, ScalarEvent):
            node = self._scalar(event, mark)
            self._anchor(event.anchor, node)
            self._add(node)
        elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            self._start(event, mark)
        elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            self._end()
        elif isinstance(event, AliasEvent):
            self._add(self._aliased(event.anchor, mark))

    def _scalar(self, event: Any, mark: Mark) -> Node:
        text = event.value
        if event.tag in _STRING_TAGS:
            value, plain = text, ""
        else:
            self._check_tag(event.tag, mark)
            value, plain = (text, "") if event.style else (resolve(text), text)
        if wrong := wrong_value(value):
            self._problems.error(mark, self._path(), wrong)
            value = None
        return Node(value, mark, plain)

    def _start(self, event: Any, mark: Mark) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise Refused(mark, self._path(), TOO_DEEP, SPLIT_IT)
        self._check_tag(event.tag, mark)
        self._anchor(event.anchor, None)
        node = Node({} if isinstance(event, MappingStartEvent) else [], mark)
        self._stack.append(_Frame(node, event.anchor))

    def _end(self) -> None:
        frame = self._stack.pop()
        for merged in frame.merges:
            self._merge(frame.node, merged)
        self._anchor(frame.anchor, frame.node)
        self._add(frame.node)

    def _anchor(self, anchor: str | None, node: Node | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _aliased(self, anchor: str, mark: Mark) -> Node:
        if anchor not in self._anchors:
            raise Refused(mark, self._path(), f"the alias `*{anchor}` names no anchor above it")
        node = self._anchors[anchor]
        if node is None:
            raise Refused(mark, self._path(), f"the alias `*{anchor}` contains itself")
        if len(self._stack) + node.height > MAX_DEPTH:
            raise Refused(mark, self._path(), TOO_DEEP, SPLIT_IT)
        return node

    def _add(self, node: Node) -> None:
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
        elif frame.key is None:
            self._set_key(frame, node)
            return
        else:
            self._set_value(frame, frame.node.value, node)
        frame.node.holds(node)
        if frame.node.size > MAX_NODES:
            raise Refused(node.mark, self._path(), TOO_LARGE, SPLIT_IT)

    def _set_key(self, frame: _Frame, node: Node) -> None:
        frame.key_mark = node.mark
        frame.merge = node.plain == _MERGE
        if isinstance(node.value, (dict, list)):
            self._problems.error(node.mark, self._path(), "a key must be text, not a list or a map")
            frame.key = ""
            return
        frame.key = node.value if isinstance(node.value, str) else node.plain
        if not frame.key:
            self._problems.error(node.mark, self._path(), "a key is missing before the `:`")

    def _set_value(self, frame: _Frame, entries: Any, node: Node) -> None:
        key, frame.key = frame.key or "", None
        if node.value is None and not node.plain:
            node.mark = frame.key_mark  # the library puts what is missing where the next thing stands
        if frame.merge:
            frame.merges.append(node)
            return
        if key in entries:
            line = frame.node.keys[key].line
            path = child_path(self._path(), key)
            self._problems.error(frame.key_mark, path, f"the key {quoted(key)} is in line {line} already")
        if key:
            entries[key] = node
            frame.node.keys[key] = frame.key_mark

    def _merge(self, node: Node, merged: Node) -> None:
        for source in merged.value if isinstance(merged.value, list) else [merged]:
            if not isinstance(source.value, dict) or not isinstance(node.value, dict):
                self._problems.error(source.mark, self._path(), "`<<` takes a map or a list of maps")
                continue
            for key, value in source.value.items():
                if key not in node.value:
                    node.value[key] = value
                    node.keys[key] = source.keys[key]
                    node.holds(value)

    def _check_tag(self, tag: str | None, mark: Mark) -> None:
        if tag is not None and tag not in _PLAIN_TAGS:
            self._problems.error(mark, self._path(), f"the tag {quoted(str(tag))} is not allowed", "remove it")

    def _path(self) -> str:
        path = ""
        for frame in self._stack:
            if isinstance(frame.node.value, list):
                path = item_path(path, len(frame.node.value))
            elif frame.key:
                path = child_path(path, frame.key)
        return path
