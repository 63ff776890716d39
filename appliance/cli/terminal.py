"""A command in a container, in this terminal: its keys, its size, its exit code.

With a terminal on both sides the command gets one too, and every key goes to it, Ctrl-C as well. Into a pipe or out of
one it gets none: its output and its errors stay apart, and every byte stays as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable, Collection, Iterator, Sequence

from appliance.cli import execute, render
from appliance.client.terminals import Ended, Terminal
from appliance.errors import UsageError

PIECE = 1 << 14
MOST_WAITING = 1 << 18
"""Bytes for the daemon that wait here before no more is read."""
WAIT_S = 1.0
"""What nobody tells is looked at this often: a line that has been silent for long."""
HUNG_UP = 255
"""Exit code of who left with `~.`, as ssh has it."""
HELP = (
    "Without a command it is a shell. The exit code is that of the command. Enter ~ . ends it where nothing else does. "
    "Where input or output is no terminal the command gets none either; its input is then what is not typed."
)

Begin = Callable[[bool, tuple[int, int], str], Terminal]
"""With a pty or without, its columns and rows, and the kind of terminal."""


class Escape:
    """Finds `~.` at the beginning of a line: the way out where the command, or the line to it, does not answer."""

    def __init__(self) -> None:
        self._state = "line"

    def found(self, data: bytes) -> tuple[bytes, bool]:
        """What goes on to the command, and whether to leave. A `~` is held back until the next key; `~~` is one."""
        passed = bytearray()
        for byte in data:
            key = bytes([byte])
            if self._state == "tilde":
                if key == b".":
                    return bytes(passed), True
                passed += b"" if key == b"~" else b"~"
            elif self._state == "line" and key == b"~":
                self._state = "tilde"
                continue
            passed += key
            self._state = "line" if key in b"\r\n" else ""
        return bytes(passed), False


def command_of(rest: Sequence[str], flags: Collection[str]) -> tuple[bool, list[str]]:
    """What follows the name: one of the flags, which argparse leaves there, then the command.

    argparse has taken the first `--` or not.
    """
    given = bool(rest) and rest[0] in flags
    rest = rest[given:]
    return given, list(rest[1:] if rest[:1] == ["--"] else rest)


def run(begin: Begin, *, wanted: bool | None = None) -> int:
    """The exit code of the command. `wanted`: a pty (True) or none (False) whatever is here. Raises ApplianceError."""
    here = sys.stdin.isatty() and sys.stdout.isatty()
    if wanted and not here:
        raise UsageError(
            "there is no terminal here to give it", hint="leave -t out: its input and output are passed on"
        )
    pty = here if wanted is None else wanted
    # typed keys are for who reads the output, such as a pager, and not for the command
    keys = None if sys.stdin.isatty() and not sys.stdout.isatty() else sys.stdin.fileno()
    terminal = begin(pty, _size(), os.environ.get("TERM", ""))
    try:
        with _raw() if pty else contextlib.nullcontext(), _resized() as news:
            return _converse(terminal, keys, news, pty=pty)
    finally:
        terminal.close()


def _converse(terminal: Terminal, keys: int | None, news: socket.socket, *, pty: bool) -> int:
    shown, escape = execute.shown(), Escape()
    if keys is None:
        terminal.end_input()
    while True:
        reads: list[Terminal | socket.socket | int] = [
            terminal,
            news,
            *([keys] if keys is not None and terminal.waiting < MOST_WAITING else []),
        ]
        ready, writable, _ = select.select(reads, [terminal] if terminal.waiting else [], [], WAIT_S)
        if writable:
            terminal.flush()
        if news in ready:
            news.recv(PIECE)
            terminal.resize(*_size())
        if keys in ready and keys is not None:
            data = os.read(keys, PIECE)
            passed, leave = escape.found(data) if pty else (data, False)
            if leave or (pty and not data):
                return HUNG_UP
            if passed:
                terminal.write(passed)
            if not data:
                terminal.end_input()
                keys = None
        for event in terminal.receive():
            if isinstance(event, Ended):
                return event.exit_code
            if pty:
                _write_all(sys.stdout.fileno(), event.data)
            else:
                shown[event.stream].write(event.data)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # somebody who shares the terminal has set it so
            select.select([], [descriptor], [])


def _size() -> tuple[int, int]:
    """Columns and rows; 0 where there is no terminal."""
    for stream in (sys.stdout, sys.stdin):
        with contextlib.suppress(OSError, ValueError):
            found = os.get_terminal_size(stream.fileno())
            return found.columns, found.lines
    return 0, 0


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key is passed on; as it was at the end, also where this process is told to end."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _resized() -> Iterator[socket.socket]:
    """May be read whenever the terminal has another size."""
    news, told = socket.socketpair()
    with news, told:
        told.setblocking(False)
        handler = signal.signal(signal.SIGWINCH, lambda number, frame: None)
        before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        try:
            yield news
        finally:
            signal.set_wakeup_fd(before)
            signal.signal(signal.SIGWINCH, handler)


def configure(verb: Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]) -> None:
    """`notebook exec`."""
    added = verb("exec", "a shell or a command in the running session", run_notebook)
    added.add_argument("-T", "--no-tty", action="store_true", help="no terminal for it, also where there is one here")
    added.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="with its arguments")
    added.epilog = HELP


def run_notebook(args: argparse.Namespace) -> int:
    client = render.client()
    no_tty, argv = command_of(args.command, ("-T", "--no-tty"))
    wanted = False if no_tty or args.no_tty else None
    return run(
        lambda pty, size, term: client.notebook_terminal(args.name, argv, tty=pty, size=size, term=term), wanted=wanted
    )


def run_replica(name: str, argv: Sequence[str], *, replica: str) -> int:
    """`deployment exec -t`."""
    client = render.client()
    return run(
        lambda pty, size, term: client.replica_terminal(name, argv, replica=replica, tty=pty, size=size, term=term),
        wanted=True,
    )
