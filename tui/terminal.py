"""A shell in what is under the cursor: the app steps aside, and the command line's own `exec` has the terminal."""

from __future__ import annotations

import subprocess
import sys

from textual.app import App, SuspendNotSupported

LINES = 12
"""Of what went wrong; the rest is cut."""


def command(kind: str, name: str) -> list[str]:
    """`kind` in the plural, as everywhere in here."""
    more = ["-t", name] if kind == "deployments" else [name]
    return ["appliance", kind.removesuffix("s"), "exec", *more]


def shell(app: App[None], kind: str, name: str) -> None:
    """Returns when the shell has ended; what the command line complains about is shown here, where it is read."""
    argv = command(kind, name)
    shown = " ".join(argv)
    try:
        with app.suspend():
            print(f"{shown}: exit comes back, and so does Enter ~ .", flush=True)
            ended = subprocess.run(
                [sys.executable, "-m", "appliance.cli.main", *argv[1:]], stderr=subprocess.PIPE, check=False
            )
    except SuspendNotSupported:
        app.notify(f"this terminal cannot be lent; type `{shown}` in another", severity="error", markup=False)
        return
    if told := ended.stderr.decode(errors="replace").strip():
        lines = told.splitlines()[:LINES]
        app.notify("\n".join(lines), title="not done", severity="error", timeout=10.0, markup=False)
