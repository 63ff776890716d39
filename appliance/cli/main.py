"""The entry point: finds the noun's module, runs it, and turns errors into words and exit codes.

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 daemon unreachable.
A module is imported only when its noun is asked for, so `appliance status` starts in the time of what it needs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from appliance import __version__
from appliance.errors import ApplianceError

COMMANDS = {
    "status": ("status", "what runs, what failed, and the health of every part"),
    "get": ("get", "list a kind, or show one resource"),
    "apply": ("declare", "declare what a spec file says"),
    "delete": ("declare", "delete a resource"),
    "validate": ("declare", "check spec files; needs no daemon"),
    "notebook": ("notebook", "create, start, stop, open notebooks; their history"),
    "workflow": ("workflow", "run workflows; show, follow, cancel, resume and replay runs"),
    "deployment": ("deployment", "show, scale, roll back, compare, restart deployments; run commands in them"),
    "dataset": ("dataset", "put and get versions, tag, branch, remove them; their lineage"),
    "model": ("model", "register, list, get, delete models; their lineage"),
    "secret": ("secret", "set, list, delete secrets"),
    "registry": ("registry", "add, list, delete logins at image registries"),
    "logs": ("logs", "log lines of a notebook, run or deployment"),
    "metrics": ("metrics", "what was measured, drawn in the terminal or as a picture; runs side by side"),
    "events": ("logs", "what happened, newest last"),
    "sql": ("sql", "a read-only query over logs, metrics, requests, runs, events; ready ones"),
    "gpu": ("gpu", "who has the GPUs, who waits, what they came to; a card out of service and back"),
    "space": ("space", "what holds the disk space, and how long the rest lasts"),
    "backup": ("backup", "everything in one consistent point, in a directory or a ZFS dataset"),
    "backups": ("backup", "the backups that were made, and the one that runs"),
    "restore-backup": ("backup", "a backup into an empty home; needs no daemon"),
    "tui": ("system", "the terminal interface"),
    "demo": ("demo", "a workflow, a deployment and a notebook on real images, start to end"),
    "doctor": ("system", "look for what is wrong on this machine and say the cure"),
    "config": ("system", "every setting with its value and origin"),
    "serve": ("system", "run the daemon in the foreground"),
    "stop": ("system", "stop the daemon; what it runs goes on"),
    "version": ("system", "the version"),
}

BROKEN_PIPE = 141
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except ApplianceError as error:
        print(f"appliance: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in COMMANDS:
        noun = arguments[0]
        module = importlib.import_module(f"appliance.cli.{COMMANDS[noun][0]}")
        parser = argparse.ArgumentParser(prog=f"appliance {noun}", description=COMMANDS[noun][1])
        getattr(module, f"configure_{noun.replace('-', '_')}")(parser)
        parsed = parser.parse_args(arguments[1:])
        return int(parsed.run(parsed))
    if arguments[:1] == ["--version"]:
        print(__version__)
        return 0
    wrong = arguments and arguments[0] not in ("-h", "--help", "help")
    stream = sys.stderr if wrong else sys.stdout
    if wrong:
        print(f"appliance: no command {arguments[0]!r}{_nearest(arguments[0])}\n", file=stream)
    print(_help(), file=stream)
    return 2 if wrong else 0


def _nearest(word: str) -> str:
    import difflib  # deferred: only a typing mistake needs it

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _help() -> str:
    lines = ["usage: appliance COMMAND ...", "", "One GPU workstation as your private ML platform.", ""]
    lines += [f"  {noun:<14} {text}" for noun, (_, text) in COMMANDS.items()]
    lines += [
        "",
        "`appliance COMMAND --help` tells more. Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict,",
        "5 daemon unreachable.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
