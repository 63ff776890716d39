"""Commands inside a container that the appliance runs, asked of the engine and not of the appliance."""

from __future__ import annotations

import docker


def run_inside(container: str, *command: str) -> str:
    """What it prints; fails with it where the command fails."""
    engine = docker.from_env()
    try:
        code, output = engine.containers.get(container).exec_run(list(command))
    finally:
        engine.close()
    assert isinstance(output, bytes)
    assert code == 0, f"exit {code}: {output.decode(errors='replace')}"
    return output.decode()
