"""JSON text into a tree with places; where asked, with comments and trailing commas (JSONC)."""

from __future__ import annotations

import json
import re

from appliance.spec.problems import LINE_END, START, Mark, Problems, quoted
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

_SPACE = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r"//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"\w+", re.ASCII)
_WORDS: dict[str, Scalar] = {"null": None, "true": True, "false": False}


def read_json(text: str, file: str, *, comments: bool) -> list[Document]:
    """One document, without a root where the text is not valid; none for a text of white space only."""
    problems = Problems(file)
    reader = _Reader(text, problems, comments)
    try:
        if reader.at_end():
            return []
        root = reader.value("", 1)
        if not reader.at_end():
            raise reader.refused("there is more text after the end of the document")
    except Refused as refused:
        refused.add_to(problems)
        return [Document(None, problems)]
    return [Document(root, problems)]


class _Reader:
    def __init__(self, text: str, problems: Problems, comments: bool) -> None:
        self._text = text
        self._problems = problems
        self._comments = comments
        self._at = 0
        self._count = 0
        self._starts = [0, *(match.end() for match in LINE_END.finditer(text))]
        self._line = 0

    def refused(self, message: str, hint: str = "", path: str = "") -> Refused:
        return Refused(self._mark(), path, f"not valid JSON: {message}", hint)

    def at_end(self) -> bool:
        self._skip()
        return self._at >= len(self._text)

    def value(self, path: str, depth: int) -> Node:
        """`MAX_DEPTH` bounds the recursion."""
        self._count += 1
        if self._count > MAX_NODES:
            raise Refused(self._mark(), path, TOO_LARGE, SPLIT_IT)
        if depth > MAX_DEPTH:
            raise Refused(self._mark(), path, TOO_DEEP, SPLIT_IT)
        self._skip()
        mark = self._mark()
        if self._take("{"):
            return self._map(Node({}, mark), path, depth)
        if self._take("["):
            return self._list(Node([], mark), path, depth)
        start = self._at
        value = self._scalar()
        if wrong := wrong_value(value):
            self._problems.error(mark, path, wrong)
            value = None
        return Node(value, mark, "" if isinstance(value, str) else self._text[start : self._at])

    def _map(self, node: Node, path: str, depth: int) -> Node:
        entries: dict[str, Node] = {}
        node.value = entries
        while not self._closes("}", first=not node.keys):
            mark = self._mark()
            if not self._text.startswith('"', self._at):
                raise self.refused("a key in double quotes is expected here", path=path)
            key = self._string()
            inner = child_path(path, key)
            if wrong := wrong_value(key):
                raise Refused(mark, path, f"the key {wrong}")
            self._skip()
            if not self._take(":"):
                raise self.refused("`:` is expected here", path=inner)
            child = self.value(inner, depth + 1)
            node.holds(child)
            if key in entries:
                line = node.keys[key].line
                self._problems.error(mark, inner, f"the key {quoted(key)} is in line {line} already")
            entries[key] = child
            node.keys[key] = mark
        return node

    def _list(self, node: Node, path: str, depth: int) -> Node:
        items: list[Node] = []
        node.value = items
        while not self._closes("]", first=not items):
            child = self.value(item_path(path, len(items)), depth + 1)
            node.holds(child)
            items.append(child)
        return node

    def _closes(self, end: str, *, first: bool) -> bool:
        """Whether the list or map ends here; else the comma before its next member is taken."""
        self._skip()
        if self._take(end):
            return True
        if first:
            return False
        if not self._take(","):
            raise self.refused(f"`,` or `{end}` is expected here")
        self._skip()
        if not self._text.startswith(end, self._at):
            return False
        if not self._comments:
            raise self.refused(f"a comma before `{end}`", "remove it, or name the file .jsonc")
        self._at += 1
        return True

    def _scalar(self) -> Scalar:
        if self._text.startswith('"', self._at):
            return self._string()
        if number := _NUMBER.match(self._text, self._at):
            self._at = number.end()
            whole = number[1] is None and number[2] is None
            if whole:
                return int(number[0]) if len(number[0]) < 30 else MAX_INTEGER + 1
            return float(number[0])
        word = _WORD.match(self._text, self._at)
        if word and word[0] in _WORDS:
            self._at = word.end()
            return _WORDS[word[0]]
        if self._at >= len(self._text):
            raise self.refused("the text ends in the middle")
        found = word[0] if word else self._text[self._at]
        raise self.refused(f"{quoted(found)} is no value", "text needs double quotes")

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if match is None:
            raise self.refused("the text in double quotes has no end in its line, or a wrong `\\`")
        self._at = match.end()
        return str(json.loads(match[0]))

    def _skip(self) -> None:
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches anything
            if not self._text.startswith("/", self._at):
                return
            comment = _COMMENT.match(self._text, self._at)
            if comment is None:
                raise self.refused("`/` starts no comment that ends")
            if not self._comments:
                raise self.refused("comments are not part of JSON", "name the file .jsonc, or remove the comment")
            self._at = comment.end()

    def _take(self, token: str) -> bool:
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _mark(self) -> Mark:
        if not self._text:
            return START
        while self._line + 1 < len(self._starts) and self._starts[self._line + 1] <= self._at:
            self._line += 1
        return Mark(self._line + 1, self._at - self._starts[self._line] + 1)
