"""A real SSH server for git: the machine's sshd for each connection, with a configuration and keys of its own.

It lets the user in who runs the tests, with keys that were made here, and reads none of that user's.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
_SEPARATED = Path("/run/sshd")
"""sshd of root insists on it; the distribution's service makes it."""


class SshServer:
    """`root` holds its keys. A repository at PATH of this machine is at `url(PATH)`."""

    def __init__(self, root: Path, host: str) -> None:
        self._root = root
        self._listening = socket.create_server((host, 0))
        self._host, self._port = host, self._listening.getsockname()[1]
        self._children: list[subprocess.Popen[bytes]] = []
        self.allowed = root / "authorized_keys"
        self.allowed.touch()
        self.renew()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def url(self, path: Path) -> str:
        return f"ssh://{pwd.getpwuid(os.geteuid()).pw_name}@{self._host}:{self._port}{path}"

    def key(self, name: str, *, allowed: bool = True) -> str:
        """A new private key."""
        path = self._root / name
        _keygen(path)
        if allowed:
            with self.allowed.open("a") as file:
                file.write(f"restrict {path.with_suffix('.pub').read_text()}")
        return path.read_text()

    def host_key(self) -> str:
        """The server's line of a `known_hosts` file."""
        kind, key, *_ = (self._root / "host_key.pub").read_text().split()
        return f"[{self._host}]:{self._port} {kind} {key}\n"

    def renew(self) -> None:
        """From now on it is another server."""
        host_key = self._root / "host_key"
        for path in (host_key, host_key.with_suffix(".pub")):
            path.unlink(missing_ok=True)
        _keygen(host_key)
        (self._root / "sshd_config").write_text(
            f"HostKey {host_key}\nAuthorizedKeysFile {self.allowed}\nStrictModes no\nUsePAM no\nPidFile none\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n"
        )

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for child in self._children:
            if child.poll() is None:
                child.terminate()
            child.wait()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, (self._root / "sshd.log").open("ab") as log:
                self._children.append(
                    subprocess.Popen(
                        [str(SSHD), "-i", "-e", "-f", str(self._root / "sshd_config")],
                        stdin=connection.fileno(), stdout=connection.fileno(), stderr=log,
                    )
                )  # fmt: skip


@contextmanager
def serve_ssh(root: Path, host: str = "127.0.0.1") -> Iterator[SshServer]:
    root.mkdir(parents=True, exist_ok=True)
    made = os.geteuid() == 0 and not _SEPARATED.exists()
    if made:
        _SEPARATED.mkdir(mode=0o755)
    server = SshServer(root, host)
    try:
        yield server
    finally:
        server.close()
        if made:
            with contextlib.suppress(OSError):
                _SEPARATED.rmdir()


def _keygen(path: Path) -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=60)
