"""`s3-download@v1` as it runs in its container: everything below a prefix of a bucket, into a directory.

The whole listing is read before anything is fetched: then it is known how much there is, and which keys cannot be
files. A key's path is the key itself without the prefix, so two keys never meet in one file; a key that is no path
(`..`, an empty name between two slashes, a name of more than 255 bytes) or whose file would have to be a folder too is
left out, and named in the log and in the job's message. Every object is fetched beside the directory's own files and
moved there when its size is right, so what has its name is whole: a second run over the same directory fetches only
what is missing or has changed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve()
WORKERS = 8
"""Objects that are fetched at the same time."""
PART = 16 << 20
"""Bytes; larger objects are fetched in parts of this size, four at a time."""
PIECE = 1 << 20
ATTEMPTS = 3
"""Per object, on top of what boto3 tries again by itself."""
PROGRESS_S = 5.0
SHOWN = 5
LONGEST_NAME, LONGEST_PATH = 255, 3800

WORDS = {
    "NoSuchBucket": "there is no bucket {bucket}",
    "InvalidAccessKeyId": "the server does not know this access key",
    "SignatureDoesNotMatch": "the secret access key does not belong to this access key",
    "InvalidToken": "the server does not know this access key",
    "ExpiredToken": "the access key has expired",
    "AccessDenied": "this access key may not read bucket {bucket}",
    "AllAccessDisabled": "the bucket {bucket} is locked",
    "InvalidBucketName": "{bucket} cannot be the name of a bucket",
    "PermanentRedirect": "the bucket {bucket} lies in another region: name it in `region`",
    "AuthorizationHeaderMalformed": "the bucket {bucket} lies in another region: name it in `region`",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "InvalidObjectState": "it is in an archive: restore it in the bucket first",
    "NoSuchKey": "it was deleted meanwhile",
    "404": "the server knows no such bucket or object",
    "403": "this access key may not read it",
}


class Refused(Exception):
    """Why nothing more is downloaded, in words."""


@dataclass(frozen=True)
class Listed:
    key: str
    size: int
    changed: float
    """Unix time."""


Fetch = Callable[[Listed, str, Callable[[int], None]], None]
"""Writes an object to a path, and tells the bytes as they come."""


@dataclass
class Plan:
    files: list[tuple[str, Listed]] = field(default_factory=list)
    """Path below the target, and the object."""
    folders: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Key, and why it cannot be a file."""


def place_of(key: str, prefix: str) -> str:
    """Path below the target; empty: the target itself. A final slash, the mark of a folder, is kept.

    Raises ValueError that says why the key has none.
    """
    rest = key.rpartition("/")[2] if key == prefix and not key.endswith("/") else key[len(prefix) :]
    if prefix and not prefix.endswith("/"):
        rest = rest.removeprefix("/")
    parts = rest.removesuffix("/").split("/") if rest not in ("", "/") else []
    for part in parts:
        if part in ("", ".", ".."):
            raise ValueError(f"{part!r} cannot be a name" if part else "it has an empty name between slashes")
        if "\0" in part:
            raise ValueError("it has a NUL character")
        if len(part.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
            raise ValueError(f"it has a name of more than {LONGEST_NAME} bytes")
    if rest == "/":
        raise ValueError("it has an empty name between slashes")
    if len(rest.encode("utf-8", "surrogatepass")) > LONGEST_PATH:
        raise ValueError(f"it is longer than {LONGEST_PATH} bytes")
    return rest


def belongs(key: str, prefix: str) -> bool:
    """`path` means the object of that name and what lies below `path/`, not `path2`."""
    return not prefix or prefix.endswith("/") or key == prefix or key.startswith(f"{prefix}/")


def plan(objects: Sequence[Listed], prefix: str) -> Plan:
    """Which object becomes which file. Every object that has content is in `files` or in `left_out`."""
    found = Plan()
    placed: list[tuple[str, Listed]] = []
    for one in objects:
        if not belongs(one.key, prefix):
            continue
        try:
            path = place_of(one.key, prefix)
        except ValueError as error:
            found.left_out.append((one.key, str(error)))
            continue
        if path.endswith("/") or not path:
            if one.size:
                found.left_out.append((one.key, "it has content and the name of a folder"))
            elif path:
                found.folders.append(path.rstrip("/"))
        else:
            placed.append((path, one))
    above = {folder for path, _ in placed for folder in _above(path)}
    taken: dict[str, str] = {}
    for path, one in placed:
        if path in taken:  # s3://bucket/data with both `data` and `data/data`
            found.left_out.append((one.key, f"{taken[path]!r} has its place"))
        elif path not in above:
            taken[path] = one.key
            found.files.append((path, one))
        elif one.size:
            found.left_out.append((one.key, "other keys lie below it, so it has to be a folder"))
    found.folders = [path for path in found.folders if taken.keys().isdisjoint((path, *_above(path)))]
    return found


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


class Download:
    """Fetches the files of a plan with `WORKERS` threads."""

    def __init__(self, plan: Plan, target: Path, fetch: Fetch) -> None:
        self._plan = plan
        self._target = target
        self._fetch = fetch
        self._lock = threading.Lock()
        self._next = iter(plan.files)
        self._work = target / f".appliance-{secrets.token_hex(8)}"
        self.objects = self.bytes = self.kept = 0
        self.error: BaseException | None = None

    def run(self, tell: Callable[[str], None]) -> None:
        """Raises what the first object that failed has raised."""
        total = sum(one.size for _, one in self._plan.files)
        self._work.mkdir(mode=0o700)
        try:
            for folder in self._plan.folders:
                os.makedirs(self._target / folder, exist_ok=True)
            threads = [threading.Thread(target=self._worker, daemon=True) for _ in range(WORKERS)]
            for thread in threads:
                thread.start()
            told = time.monotonic()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.1)
                if time.monotonic() - told >= PROGRESS_S:
                    told = time.monotonic()
                    tell(f"{self.objects} of {len(self._plan.files)} objects, {size(self.bytes)} of {size(total)}")
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
        if self.error:
            raise self.error

    def _worker(self) -> None:
        while self.error is None:
            with self._lock:
                path, one = next(self._next, ("", None))
            if one is None:
                return
            try:
                self._one(path, one)
            except BaseException as error:  # of a thread: told by `run`
                with self._lock:
                    if self.error is None:
                        self.error = error

    def _one(self, path: str, one: Listed) -> None:
        final = self._target / path
        if not _same(final, one):
            os.makedirs(final.parent, exist_ok=True)
            beside = self._work / secrets.token_hex(8)
            self._obtain(one, beside)
            os.utime(beside, (one.changed, one.changed))
            os.replace(beside, final)
        else:
            self._count(one.size)
            self.kept += 1
        with self._lock:
            self.objects += 1

    def _obtain(self, one: Listed, beside: Path) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            counted = 0

            def count(size: int) -> None:
                nonlocal counted
                counted += size
                self._count(size)

            try:
                self._fetch(one, str(beside), count)
                found = beside.stat().st_size
                if found == one.size:
                    return
                raise Refused(f"{one.key!r} has {found} bytes and was listed with {one.size}: it changes meanwhile")
            except Exception as error:
                self._count(-counted)
                if attempt == ATTEMPTS or not _may_pass(error):
                    raise
                time.sleep(attempt)

    def _count(self, size: int) -> None:
        with self._lock:
            self.bytes += size


def _same(path: Path, one: Listed) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return path.is_file() and not path.is_symlink() and (found.st_size, found.st_mtime) == (one.size, one.changed)


def _may_pass(error: Exception) -> bool:
    """Another attempt may go well: the connection broke, or the server had trouble."""
    status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return not isinstance(error, OSError) and not 400 <= status < 500


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def client_of(request: dict[str, Any]) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    login = {} if request["access_key"] else {"signature_version": UNSIGNED}
    config = Config(
        **login,
        connect_timeout=10,
        read_timeout=60,
        retries={"total_max_attempts": 4, "mode": "standard"},
        max_pool_connections=WORKERS * 4,
        s3={"addressing_style": "path" if request["endpoint"] else "auto"},
    )
    return boto3.session.Session().client(
        "s3",
        aws_access_key_id=request["access_key"] or None,
        aws_secret_access_key=request["secret_access_key"] or None,
        region_name=request["region"] or "us-east-1",
        endpoint_url=request["endpoint"] or None,
        config=config,
    )


def listing(client: Any, bucket: str, prefix: str) -> list[Listed]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [
        Listed(one["Key"], one["Size"], float(int(one["LastModified"].timestamp())))
        for page in pages
        for one in page.get("Contents", ())
    ]


def fetcher(client: Any, bucket: str) -> Fetch:
    from boto3.s3.transfer import TransferConfig

    config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)

    def fetch(one: Listed, path: str, count: Callable[[int], None]) -> None:
        if one.size >= PART:
            client.download_file(bucket, one.key, path, Config=config, Callback=count)
            return
        # one request, where download_file would ask for the size first
        body = client.get_object(Bucket=bucket, Key=one.key)["Body"]
        with open(path, "wb") as file:
            for piece in body.iter_chunks(PIECE):
                file.write(piece)
                count(len(piece))

    return fetch


def download(request: dict[str, Any], tell: Callable[[str], None]) -> str:
    """What was done, in words. Raises Refused, and boto3's and the system's errors."""
    bucket, prefix, target = request["bucket"], request["prefix"], Path(request["target"])
    os.makedirs(target, exist_ok=True)
    if os.path.realpath(target) != str(target):
        raise Refused(f"{target} leads elsewhere: it is reached through a symbolic link")
    client = client_of(request)
    found = plan(listing(client, bucket, prefix), prefix)
    for key, why in found.left_out:
        tell(f"left out: {key!r}: {why}")
    if not found.files and not found.folders:
        if found.left_out:
            raise Refused(f"none of the {len(found.left_out)} objects can be a file: {_named(found.left_out)}")
        raise Refused(f"there is no object below s3://{bucket}/{prefix}")
    tell(f"{len(found.files)} objects, {size(sum(one.size for _, one in found.files))}")
    work = Download(found, target, fetcher(client, bucket))
    work.run(tell)
    words = f"{work.objects} objects, {size(work.bytes)}, are in {target}"
    if work.kept:
        words += f" ({work.kept} were there already)"
    if found.left_out:
        words += f"; {len(found.left_out)} were left out, since they cannot be files: {_named(found.left_out)}"
    return words


def _named(left_out: Sequence[tuple[str, str]]) -> str:
    more = f" and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
    return ", ".join(f"{key!r} ({why})" for key, why in left_out[:SHOWN]) + more


def words_of(error: Exception, request: dict[str, Any]) -> str:
    """An error of boto3, in words that name what to change."""
    from botocore import exceptions

    endpoint = request["endpoint"] or "Amazon S3"
    if isinstance(error, exceptions.ClientError):
        told = error.response.get("Error", {})
        code, status = str(told.get("Code", "")), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        words = WORDS.get(code) or WORDS.get(str(status), "")
        return f"{words.format(bucket=request['bucket'])} ({code})" if words else f"{endpoint} says: {error}"
    if isinstance(error, exceptions.SSLError):
        return f"the certificate of {endpoint} cannot be verified"
    if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        return f"{endpoint} cannot be reached: {type(error).__name__}"
    if isinstance(error, OSError):
        return f"{error.strerror or error}"
    return f"{type(error).__name__}: {error}"


def tell(words: str) -> None:
    print(words.encode("utf-8", "replace").decode("utf-8"), flush=True)


def fail(words: str) -> NoReturn:
    tell(f"appliance: {words[:500]}")
    sys.exit(1)


def main() -> None:
    request = json.loads(HERE.with_name("request.json").read_text(encoding="utf-8"))
    try:
        done = download(request, tell)
    except Refused as error:
        fail(str(error))
    except Exception as error:
        fail(words_of(error, request))
    tell(f"appliance: {done[:500]}")


if __name__ == "__main__":
    main()
