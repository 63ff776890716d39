"""A base image from the distribution's own packages: mmdebstrap writes a tar that goes straight into the engine.

Nothing half-made survives: the tar is never on disk, the engine refuses one that breaks off, and mmdebstrap dies with
the daemon, its mounts with its namespace.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import shutil
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import docker

from appliance.engine import failures
from appliance.engine.client import LONG_S, Client
from appliance.engine.recipes import sources
from appliance.engine.recipes.index import redact
from appliance.engine.recipes.recipe import Progress
from appliance.errors import EngineError

log = logging.getLogger(__name__)

CHUNK = 256 * 1024
CLEAN_STEP = Path(__file__).with_name("clean.sh")
STEPS = {
    "running apt-get update": "reading the package lists",
    "downloading packages": "downloading packages",
    "extracting archives": "extracting packages",
    "installing essential": "installing the essential packages",
    "installing remaining": "installing the other packages",
    "creating tarball": "handing it to the engine",
}


async def bootstrap(
    client: Client, packages: Sequence[str], changes: Sequence[str], *, scratch: Path, progress: Progress
) -> str:
    """The id of the imported image. Raises EngineError where this host cannot do it, with the next step."""
    suite = _suite()
    if shutil.which("mmdebstrap") is None:
        raise EngineError(
            "mmdebstrap is missing, and no registry answers",
            where="base image",
            hint="`apt-get install mmdebstrap` (./install.sh does), or set base_image to an image that is here",
        )
    argv = await _argv(suite, packages, scratch)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as tar:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writer,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "TMPDIR": str(scratch), "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        finally:
            os.close(writer)
        last: deque[str] = deque(maxlen=15)
        narration = asyncio.create_task(_narrate(process, last, progress))
        try:
            return await _import(client, process, tar, changes)
        except Exception as error:
            if process.returncode:
                await narration
                raise _failed(process.returncode, last) from error
            raise
        finally:
            await _end(process, narration)


async def _argv(suite: str, packages: Sequence[str], scratch: Path) -> list[str]:
    files = {str(path): path.read_text(errors="replace") for path in _source_files()}
    found = sources.distribution_sources(files, suite)
    mirrors = []
    for name, text in (("host.list", found.one_line), ("host.sources", found.deb822)):
        if text:
            (scratch / name).write_text(text)
            mirrors.append(str(scratch / name))
    argv = ["mmdebstrap", "--variant=apt", "--format=tar", f"--include={','.join(packages)}"]
    argv += ['--aptopt=Acquire::Languages "none"', *(f"--aptopt={option}" for option in await _apt_options())]
    argv += ["--dpkgopt=force-unsafe-io", f'--customize-hook=sh {shlex.quote(str(CLEAN_STEP))} "$1"']
    return [*_leash(), *argv, suite, "-", *mirrors]


def _leash() -> list[str]:
    """Ends everything below with this process, even at kill -9, and keeps its mounts out of the host's tree."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("unshare") is None:
        return []
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["setpriv", "--pdeathsig", "KILL", "--", *namespaces]


def _suite() -> str:
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        text = ""
    if suite := sources.codename(text):
        return suite
    raise EngineError(
        "no registry answers, and only a Debian or Ubuntu host can build a base image from its own packages",
        where="base image",
        hint="connect to a registry, or `docker load` a Debian-based Python image and name it in base_image",
    )


def _source_files() -> list[Path]:
    folder = Path("/etc/apt/sources.list.d")
    return [
        path
        for path in (Path("/etc/apt/sources.list"), *folder.glob("*.list"), *folder.glob("*.sources"))
        if path.is_file()
    ]


async def _apt_options() -> list[str]:
    if shutil.which("apt-config") is None:
        return []
    process = await asyncio.create_subprocess_exec(
        "apt-config", "dump", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    return sources.apt_options(output.decode("utf-8", "replace"))


async def _import(client: Client, process: asyncio.subprocess.Process, tar: IO[bytes], changes: Sequence[str]) -> str:
    loop = asyncio.get_running_loop()

    def pieces() -> Iterator[bytes]:
        while piece := tar.read(CHUNK):
            yield piece
        # The last chunk is sent only for a tar that is whole: otherwise the engine would keep half a system.
        if asyncio.run_coroutine_threadsafe(process.wait(), loop).result(timeout=LONG_S):
            raise OSError("mmdebstrap failed")

    def work(api: docker.APIClient) -> str:
        return str(api.import_image(pieces(), changes=list(changes), stream_src=True))

    answer = await client.call(work, deadline_s=LONG_S)
    for line in answer.splitlines():
        document: Mapping[str, str] = json.loads(line)
        if "error" in document:
            raise failures.engine_error(document["error"], where="base image")
        if document.get("status", "").startswith("sha256:"):
            return document["status"]
    raise EngineError(f"the engine imported nothing: {answer}", where="base image", hint="look at the engine's log")


async def _narrate(process: asyncio.subprocess.Process, last: deque[str], progress: Progress) -> None:
    assert process.stderr is not None
    async for raw in process.stderr:
        line = redact(raw.decode("utf-8", "replace").rstrip())
        last.append(line)
        for words, step in STEPS.items():
            if line.startswith(f"I: {words}"):
                progress(step)


async def _end(process: asyncio.subprocess.Process, narration: asyncio.Task[None]) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    narration.cancel()
    await asyncio.gather(narration, return_exceptions=True)


def _failed(code: int, last: Sequence[str]) -> EngineError:
    said = "\n".join(last)
    if "no space left" in said.lower():
        return failures.engine_error(said, where="base image")
    return EngineError(
        f"mmdebstrap ended with exit code {code}:\n{said}",
        where="base image",
        hint="`apt-get update` on this host must work; then start again",
    )
