"""The program of s3-download@v1 against a real S3 server: listings of many pages, large objects, odd keys, errors."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.fetching.programs import files_of
from tests.support.s3 import Bucket, serve_s3

MANY = 1010
"""A page of a listing has 1,000."""
LARGE = random.Random(4).randbytes(30 << 20)
"""More than one part."""
ODD = {
    "odd/a b.txt": b"space",
    "odd/grün/日本.txt": b"unicode",
    "odd/50%25 + more?.txt": b"percent",
    "odd/-rf": b"dash",
    "odd/folder/": b"",
    "odd/marked/": b"",
    "odd/marked/inside": b"inside",
    "odd/both": b"content and a folder",
    "odd/both/below": b"below",
    "odd/empty": b"",
    "odd/../../escaped": b"up",
    "odd//lead": b"empty name",
    "odd/./dot": b"dot",
    "odd/" + "n" * 200 + "/" + "ü" * 120: b"long",
}
FINE = ["-rf", "50%25 + more?.txt", "a b.txt", "both/below", "empty", "grün/日本.txt", "marked/inside"]
FINE.append("n" * 200 + "/" + "ü" * 120)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with serve_s3() as found:
        found.put({f"many/{number % 7}/{number:05}": str(number).encode() for number in range(MANY)})
        found.put({"large/one.bin": LARGE, "many2/other": b"not below many/", **ODD})
        yield found


def download(
    source: Bucket, tmp_path: Path, prefix: str, **other: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, bytes]]:
    """How it ended, and the files it made, by path."""
    target = tmp_path / "outputs" / "data"
    request = {
        "bucket": source.name,
        "prefix": prefix,
        "region": "",
        "endpoint": source.endpoint,
        "target": str(target),
        "access_key": source.access_key,
        "secret_access_key": source.secret,
        **other,
    }
    private = tmp_path / "private"
    private.mkdir(exist_ok=True)
    for name, text in files_of("s3_download", request).items():
        (private / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, str(private / "s3_download.py")], capture_output=True, text=True, timeout=120, env=environment
    )
    found = {str(path.relative_to(target)): path for path in target.rglob("*")} if target.is_dir() else {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "private"]
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["data"]
    return done, {name: path.read_bytes() for name, path in found.items() if path.is_file()}


def last(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stdout.splitlines() or [""])[-1]


def test_more_objects_than_a_page_holds(bucket: Bucket, tmp_path: Path) -> None:
    done, found = download(bucket, tmp_path, "many/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert found == {f"{number % 7}/{number:05}": str(number).encode() for number in range(MANY)}
    assert last(done).startswith(f"appliance: {MANY} objects, ")


def test_a_prefix_without_a_slash_is_the_folder_of_that_name_or_the_object(bucket: Bucket, tmp_path: Path) -> None:
    _, found = download(bucket, tmp_path, "many2")
    assert found == {"other": b"not below many/"}
    _, found = download(bucket, tmp_path, "large/one.bin")
    assert found["one.bin"] == LARGE


def test_a_large_object_comes_in_parts_and_is_not_fetched_again(bucket: Bucket, tmp_path: Path) -> None:
    done, found = download(bucket, tmp_path, "large/")
    assert found == {"one.bin": LARGE}
    assert "1 objects, 31.5 MB" in last(done)
    again, found = download(bucket, tmp_path, "large/")
    assert found == {"one.bin": LARGE}
    assert "(1 were there already)" in last(again)
    assert bucket.secret not in done.stdout + done.stderr


def test_odd_keys_are_files_or_are_named(bucket: Bucket, tmp_path: Path) -> None:
    done, found = download(bucket, tmp_path, "odd/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(found) == sorted(FINE)
    assert found["grün/日本.txt"] == b"unicode"
    assert (tmp_path / "outputs/data/folder").is_dir()
    assert "4 were left out" in last(done)
    for key in ("odd/../../escaped", "odd//lead", "odd/./dot", "odd/both"):
        assert f"left out: {key!r}" in done.stdout


@pytest.mark.parametrize(
    ("prefix", "other", "words"),
    [
        ("", {"bucket": "no-such-bucket"}, "there is no bucket no-such-bucket (NoSuchBucket)"),
        ("nothing/", {}, "there is no object below s3://the-bucket/nothing/"),
        ("", {"access_key": "AKIANOBODY"}, "does not know this access key (InvalidAccessKeyId)"),
        ("", {"secret_access_key": "wrong"}, "does not belong to this access key (SignatureDoesNotMatch)"),
        ("", {"endpoint": "http://127.0.0.1:1"}, "http://127.0.0.1:1 cannot be reached"),
        ("odd/../", {}, "none of the 1 objects can be a file: 'odd/../../escaped'"),
    ],
)
def test_errors_are_words(bucket: Bucket, tmp_path: Path, prefix: str, other: dict[str, str], words: str) -> None:
    done, found = download(bucket, tmp_path, prefix, **other)
    assert (done.returncode, found) == (1, {})
    assert words in last(done)
    assert "Traceback" not in done.stdout + done.stderr


def test_no_access_is_told(bucket: Bucket, tmp_path: Path) -> None:
    access_key, secret = bucket.stranger
    done, _ = download(bucket, tmp_path, "many/", access_key=access_key, secret_access_key=secret)
    assert done.returncode == 1
    assert "may not read bucket the-bucket (AccessDenied)" in last(done)
