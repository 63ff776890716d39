"""A Docker engine of a test's own that can be ended and started again, for what must survive that.

It has a network namespace of its own and gives its containers none, so it cannot get into the machine's engine's way.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import IMAGE, end_engine, import_image, until_up

_NEEDED = ("dockerd", "containerd", "runc", "unshare", "docker")
_DOWN_S = 120.0


class RestartingEngine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/s"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.folder / "daemon.json"
        config.write_text("{}")
        argv = [
            *("unshare", "--net", "dockerd", "--config-file", str(config)),
            *("--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")),
            *("--pidfile", str(self.folder / "pid"), "-H", self.host),
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
        ]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if not until_up(self._process, self.folder):
            pytest.fail(f"the engine does not run: {(self.folder / 'log').read_text(errors='replace')[-600:]}")

    def stop(self) -> None:
        """As an upgrade does it: its containers are asked to end, and what they print is written to their logs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(_DOWN_S)

    def close(self) -> None:
        if self._process is not None:
            end_engine(self._process, self.folder)

    def docker(self, *argv: str) -> str:
        command = ["docker", "-H", self.host, *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.strip()

    def run(self, script: str, *options: str) -> str:
        """A container with a shell; its id."""
        return self.docker("run", "-d", "--network", "none", *options, "--entrypoint", "sh", IMAGE, "-c", script)


@contextlib.contextmanager
def restarting_engine() -> Iterator[RestartingEngine]:
    """Skips the test, in words, where it cannot be had."""
    if os.geteuid() != 0:
        pytest.skip("an engine of the test's own needs root")
    for needed in _NEEDED:
        if shutil.which(needed) is None:
            pytest.skip(f"an engine of the test's own needs {needed}, which is not installed")
    # short, for a socket's path is short
    with tempfile.TemporaryDirectory(prefix="ar-", ignore_cleanup_errors=True) as name:
        engine = RestartingEngine(Path(name))
        try:
            engine.start()
            import_image(engine.host)
            yield engine
        finally:
            engine.close()
