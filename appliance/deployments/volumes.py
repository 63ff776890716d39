"""What is mounted into the replicas of a deployment beside its models: where it lies, and what of it may go.

`content/UID/KEY` is what was fetched once for the revisions with the same sources, and never changes again: in `data`,
beside a note that tells what it is. `integrations/UID/NAME` is a volume that replicas write to; it stays as long as the
deployment does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from appliance.errors import ApplianceError, NotFound
from appliance.fetching import programs
from appliance.storage.base import Store
from appliance.storage.names import part
from appliance.storage.trees.removing import remove

FETCHED, KEPT = "content", "integrations"
DATA, NOTE = "data", "fetched.json"
_WORK = ".appliance-"
"""How folders begin in which the program for buckets keeps what is not whole."""


def fetched(uid: str, key: str) -> str:
    return f"{FETCHED}/{part(uid)}/{key}"


def kept(uid: str, name: str) -> str:
    return f"{KEPT}/{part(uid)}/{part(name)}"


def below(uid: str, *, all_of_it: bool) -> list[str]:
    """Where the volumes of a deployment lie; without `all_of_it` those alone that can be fetched again."""
    return [f"{room}/{part(uid)}" for room in ((FETCHED, KEPT) if all_of_it else (FETCHED,))]


def volumes_of(contents: Iterable[Mapping[str, Any]]) -> set[str]:
    """The volumes that these pinned contents stand on."""
    return {entry["volume"] for content in contents for entry in content.values() if "volume" in entry}


def can_be_fetched(volumes: Iterable[str]) -> set[str]:
    """Those of the volumes that are not worth a place in a backup. A revision that names one looks it up anew."""
    return {volume for volume in volumes if volume.startswith(f"{FETCHED}/")}


def note(store: Store, volume: str) -> str | None:
    """What a whole volume holds, in words; None: it is not there, or not whole. Blocks."""
    try:
        text = (store.path(volume) / NOTE).read_text(encoding="utf-8")
        return str(json.loads(text)["words"])
    except (NotFound, FileNotFoundError):
        return None


def data(root: Path) -> Path:
    """The folder of a volume that is filled and mounted."""
    folder = root / DATA
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # a container may run as anybody, whatever the umask of the daemon
    return folder


def tidy(folder: Path) -> None:
    """What an attempt that was killed had not finished goes; what it had stays."""
    for entry in list(os.scandir(folder)):
        if entry.name.startswith(_WORK) and entry.is_dir(follow_symlinks=False):
            remove(Path(entry.path))


def is_clone(folder: Path) -> bool:
    return (folder / ".git").is_dir()


def finish(store: Store, volume: str, words: str, *, link: str = "") -> None:
    """It is whole: from here on it is as it is. `link`: a name in it that leads to itself, where it has none such."""
    root = store.path(volume)
    if link:
        folder = os.open(root / DATA, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with suppress(FileExistsError):
                os.symlink(".", link, dir_fd=folder)
        finally:
            os.close(folder)
    write_note(root, words)
    store.seal(volume)


def write_note(root: Path, words: str) -> None:
    """From here on `note` tells the words. Raises OSError."""
    new = root / f"{NOTE}.new"
    with new.open("w", encoding="utf-8") as file:
        json.dump({"words": words}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(root / NOTE)


def without_secrets(store: Store, volume: str) -> None:
    """Nothing of what a program was given stays in a volume whose program was ended. Gone already counts as done."""
    with suppress(NotFound):
        programs.forget(store.path(volume))


def holding(store: Store, uid: str) -> list[str]:
    """Names of the volumes of a deployment in which its replicas have left something. Blocks."""
    return [volume.rpartition("/")[2] for volume in store.volumes(f"{KEPT}/{part(uid)}") if _full(store, volume)]


def every(store: Store) -> list[str]:
    """Of all deployments. Blocks."""
    return [volume for room in (FETCHED, KEPT) for volume in store.volumes(room)]


def sweep(store: Store, volumes: Iterable[str], known: Collection[str]) -> list[ApplianceError]:
    """Destroy those of deployments whose uids are not `known`; a volume in which replicas have left something stays."""
    mine = {part(uid) for uid in known}
    left = [volume for volume in volumes if volume.split("/")[1] not in mine]
    return destroy(store, [volume for volume in left if volume.startswith(f"{FETCHED}/") or not _full(store, volume)])


def destroy(store: Store, volumes: Iterable[str]) -> list[ApplianceError]:
    """All that can be; why the others stay for now."""
    refused = []
    for volume in volumes:
        try:
            store.destroy(volume)
        except ApplianceError as error:
            refused.append(error)
    return refused


def _full(store: Store, volume: str) -> bool:
    with suppress(NotFound), os.scandir(store.path(volume)) as entries:
        return next(entries, None) is not None
    return False
