"""The host side of a job's `/inputs`, `/outputs` and private files: one volume per job, thrown away with it.

Both folders are writable and theirs alone, so a job may write beside the declared names without harm; volumes and
datasets are bound on top of empty folders in them. After the job its content is hostile: nothing in it is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.engine.types import Mount
from appliance.errors import StorageError, UsageError
from appliance.fetching import programs
from appliance.fetching.programs import opened, write

VOLUME = "/exchange"
"""Its output name in the scratch store; the slash keeps it apart from every name a spec can hold."""
LARGEST_STRING = 1024 * 1024
"""Bytes of a string output."""


def fill(
    root: Path,
    *,
    strings: Mapping[str, str | Mapping[str, str]],
    folders: Iterable[str],
    files: Mapping[str, str],
    secret: bool = False,
    tells: bool = False,
) -> list[Mount]:
    """Lay out the volume of a job that has never run, and the mounts for it. Repeating it changes nothing.

    `strings` are the string inputs, `folders` what is bound on top, such as `inputs/data`, `files` the private files;
    with `secret` only root can read those, in the container too. With `tells` there is a folder in which root there
    leaves words for the daemon. What many jobs have made is a folder: a map of job to
    string, or folders such as `inputs/NAME/JOB`. Raises UsageError, StorageError.
    """
    try:
        return _fill(root, strings, folders, files, secret, tells)
    except OSError as error:
        raise StorageError(
            f"the job's folders cannot be made: {error.strerror}", hint="free space on the disk"
        ) from None


def _fill(
    root: Path,
    strings: Mapping[str, str | Mapping[str, str]],
    folders: Iterable[str],
    files: Mapping[str, str],
    secret: bool,
    tells: bool,
) -> list[Mount]:
    for name in ("inputs", "outputs"):
        _folder(root / name)
    for name, value in strings.items():
        if isinstance(value, str):
            write(root / "inputs" / _part(name), value, 0o666)
            continue
        for job, text in value.items():
            write(_within(root / "inputs", f"{name}/{job}"), text, 0o666)
    for folder in folders:
        side, _, name = folder.partition("/")
        _folder(_within(root / side, name))
    mounts = [Mount(root / "inputs", "/inputs"), Mount(root / "outputs", "/outputs")]
    return [*mounts, *programs.lay_out(root, files, secret=secret, tells=tells)]


def open_to_all(directory: Path) -> None:
    """Writable for whatever user the image runs as. Above it on the host only the appliance's user may pass."""
    directory.chmod(0o777)


def read_string(root: Path, name: str) -> str:
    """The string output that the job wrote. Raises UsageError that says what is wrong with it."""
    where = f"/outputs/{_part(name)}"
    try:
        file = opened(root / "outputs", name)
    except FileNotFoundError:
        raise UsageError(f"it did not write its string output {where}", hint=f"write the text to {where}") from None
    except OSError as error:
        what = "a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise UsageError(f"its string output {where} is not a regular file: {what}", hint="write a file") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise UsageError(f"its string output {where} is not a regular file", hint="write a file")
    with os.fdopen(file, "rb") as stream:
        data = stream.read(LARGEST_STRING + 1)
    if len(data) > LARGEST_STRING:
        hint = "use a volume or a dataset output for more"
        raise UsageError(f"its string output {where} is larger than {LARGEST_STRING} bytes", hint=hint)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "use a volume or a dataset output for bytes"
        raise UsageError(f"its string output {where} is not UTF-8 at byte {error.start}", hint=hint) from None


def _within(folder: Path, name: str) -> Path:
    """`NAME` or `NAME/JOB` below a folder, with the folder in between made."""
    outer, _, inner = name.partition("/")
    if not inner:
        return folder / _part(name)
    _folder(folder / _part(outer))
    return folder / outer / _part(inner)


def _part(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode()) > 255:
        raise UsageError(f"{name!r} cannot be the name of an input or output", hint="use letters, digits, - and _")
    return name


def _folder(path: Path) -> None:
    path.mkdir(exist_ok=True)
    open_to_all(path)
