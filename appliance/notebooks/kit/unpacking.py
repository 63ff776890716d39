"""The notebook image's files as a folder: what its Python and its libraries are, not the rest of a system."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from appliance.errors import EngineError
from appliance.notebooks.kit.fitting import Layout
from appliance.storage.threads import in_thread

LEFT_OUT: Sequence[str] = (
    *("boot", "dev", "home", "media", "mnt", "notebooks", "opt", "proc", "root", "run", "srv", "storage", "sys"),
    *("tmp", "usr/games", "usr/sbin", "usr/share", "usr/src", "var"),
)
TELL_EVERY_S = 1.0
END = bytes(1024)
"""Of every whole tar."""
LOADERS = "ld-linux*.so.*"

Export = Callable[[Callable[[bytes], object]], Awaitable[None]]
"""Hands the image's tar to a function, piece by piece, in a thread."""


async def unpack(export: Export, target: Path, progress: Callable[[str], None]) -> None:
    """Raises EngineError, OSError."""
    argv = ["tar", "--extract", "--file=-", "--directory", str(target), "--no-same-owner", "--preserve-permissions"]
    argv += ["--anchored", *(f"--exclude={name}" for name in LEFT_OUT)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: ASYNC220
    assert process.stdin is not None
    pipe, told, size, last = process.stdin, time.monotonic(), 0, b""

    def write(piece: bytes) -> None:
        nonlocal told, size, last
        pipe.write(piece)
        size += len(piece)
        last = (last + piece)[-len(END) :]
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            progress(f"unpacking the appliance's Jupyter, once for all images: {size >> 20} MiB")

    broken = ""
    try:
        await export(write)
        if last != END:  # tar itself is content with half an archive
            broken = f"it broke off after {size >> 20} MiB"
    except (BrokenPipeError, OSError) as error:
        broken = str(error)
    finally:
        said = await _end(process)
    if process.returncode or broken:
        words = said.strip() or broken or f"tar ended with exit code {process.returncode}"
        raise EngineError(
            f"the appliance's Jupyter could not be unpacked: {words[-500:]}",
            hint="look at the free disk space; it is tried again by itself",
        )


async def _end(process: subprocess.Popen[bytes]) -> str:
    _, said = await in_thread(process.communicate)
    return said.decode("utf-8", "replace")


def layout(root: Path, python: str) -> Layout:
    """`python` is the path of the image's own. Raises EngineError where the image is not as ours are."""
    loader = next((path for path in sorted(root.glob(f"usr/lib/*/{LOADERS}")) if path.is_file()), None)
    if loader is None or not python.startswith("/") or not (root / python[1:]).is_file():
        raise EngineError(
            f"the notebook image has no Python at {python or 'any place'} with a loader of its own",
            hint="remove the image `appliance/notebook`; it is made again",
        )
    place = str(loader.relative_to(root))
    return Layout(place, python[1:], (place.rpartition("/")[0], "usr/lib", "usr/local/lib"))
