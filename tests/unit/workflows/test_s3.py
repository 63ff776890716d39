"""Which file each key of a bucket becomes: never outside, never two in one, no content lost without a word."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import UsageError
from appliance.fetching.inside.s3_download import Download, Listed, Plan, Refused, belongs, place_of, plan, size
from appliance.fetching.s3 import address_of, endpoint_of
from appliance.spec.models import Job, Output, S3DownloadAction
from appliance.workflows.steps.actions import task_of

part = st.sampled_from(["", ".", "..", "a", "b", "data", "ü", "a b", "x" * 256, "a\0", "...", "-rf", "%2e%2e", "\\"])
keys = st.lists(part, min_size=1, max_size=5).map("/".join)
prefixes = st.sampled_from(["", "a", "a/", "data", "data/", "a/b", "a/b/", "/", "../"])


def listed(*entries: str) -> list[Listed]:
    """`key` is an object with content, `key=0` an empty one."""
    return [Listed(entry.removesuffix("=0"), 0 if entry.endswith("=0") else 5, 0.0) for entry in entries]


def files(found: Plan) -> dict[str, str]:
    return {path: one.key for path, one in found.files}


@given(keys, prefixes)
def test_a_key_never_leads_out(key: str, prefix: str) -> None:
    if not key.startswith(prefix) or not belongs(key, prefix):
        return
    try:
        path = place_of(key, prefix)
    except ValueError:
        return
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.removesuffix("/").split("/")) or path == ""
    assert (PurePosixPath("/target") / path).is_relative_to("/target")


@given(st.lists(st.tuples(keys, st.sampled_from([0, 5])), unique_by=lambda pair: pair[0], max_size=12), prefixes)
def test_a_plan_can_be_laid_out_and_forgets_nothing(objects: list[tuple[str, int]], prefix: str) -> None:
    known = [Listed(key, size, 0.0) for key, size in objects if key.startswith(prefix)]
    found = plan(known, prefix)
    paths = [path for path, _ in found.files]
    assert len(set(paths)) == len(paths)
    above = {str(folder) for path in [*paths, *found.folders] for folder in PurePosixPath(path).parents}
    assert not (above | set(found.folders)) & set(paths)
    told = [one.key for _, one in found.files] + [key for key, _ in found.left_out]
    assert len(set(told)) == len(told)
    assert {one.key for one in known if one.size and belongs(one.key, prefix)} <= set(told)


@pytest.mark.parametrize(
    ("prefix", "entries", "expected", "left_out"),
    [
        ("", ["a", "b/c"], {"a": "a", "b/c": "b/c"}, []),
        ("p/", ["p/=0", "p/a", "p/q/r"], {"a": "p/a", "q/r": "p/q/r"}, []),
        ("p", ["p/a", "p2", "pp/a"], {"a": "p/a"}, []),
        ("d/file.txt", ["d/file.txt"], {"file.txt": "d/file.txt"}, []),
        ("data", ["data", "data/x"], {"data": "data", "x": "data/x"}, []),
        ("data", ["data", "data/data"], {"data": "data"}, ["data/data"]),
        ("", ["a", "a/b"], {"a/b": "a/b"}, ["a"]),
        ("", ["a=0", "a/b"], {"a/b": "a/b"}, []),
        ("", ["../up", "/lead", "a//b", "a/../c", "./d", "fine"], {"fine": "fine"}, ["../up", "/lead", "a//b"]),
        ("", ["folder/=0", "odd/", "ok"], {"ok": "ok"}, ["odd/"]),
    ],
)
def test_what_becomes_of_keys(prefix: str, entries: list[str], expected: dict[str, str], left_out: list[str]) -> None:
    found = plan(listed(*entries), prefix)
    assert files(found) == expected
    assert [key for key, _ in found.left_out][: len(left_out)] == left_out


def test_a_mark_of_a_folder_makes_the_folder_unless_a_file_is_there() -> None:
    assert plan(listed("empty/=0", "deep/er/=0"), "").folders == ["empty", "deep/er"]
    assert plan(listed("a", "a/=0", "a/b/=0"), "").folders == []


def test_an_object_is_moved_in_when_it_is_whole_and_is_not_fetched_twice(tmp_path: Path) -> None:
    contents = {"a": b"hello", "b/c": b"world"}
    fetched: list[str] = []

    def fetch(one: Listed, path: str, count: object) -> None:
        fetched.append(one.key)
        Path(path).write_bytes(contents[one.key])

    wanted = plan([Listed(key, 5, 1000.0) for key in contents], "")
    first, second = (Download(wanted, tmp_path, fetch) for _ in range(2))
    first.run(print)
    second.run(print)
    assert sorted(fetched) == ["a", "b/c"]
    assert (second.kept, second.objects, second.bytes) == (2, 2, 10)
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == contents
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_wrong_size_fails_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.fetching.inside.s3_download.time.sleep", lambda seconds: None)
    tries: list[str] = []

    def fetch(one: Listed, path: str, count: object) -> None:
        tries.append(one.key)
        Path(path).write_bytes(b"short")

    with pytest.raises(Refused, match="has 5 bytes and was listed with 7"):
        Download(plan([Listed("a", 7, 0.0)], ""), tmp_path, fetch).run(print)
    assert len(tries) == 3
    assert list(tmp_path.iterdir()) == []


def test_keys_reach_the_container_in_a_private_file() -> None:
    action = S3DownloadAction(url="s3://bucket/a/", access_key="AKIA", secret_access_key="secret:K", endpoint="x.y:9")
    job = Job(action=action, outputs={"data": Output(type="volume")})
    task = task_of(job, env={}, event={}, reveal=lambda text: text.replace("secret:K", "hunter2\n"))
    request = json.loads(task.files["request.json"])
    assert task.secret
    assert "hunter2" not in " ".join([*(task.entrypoint or ()), *(task.command or ())])
    assert (request["bucket"], request["prefix"], request["target"]) == ("bucket", "a/", "/outputs/data")
    assert (request["secret_access_key"], request["endpoint"]) == ("hunter2", "https://x.y:9")


@pytest.mark.parametrize("url", ["s3:bucket", "s3://", "s3://a/b", "s3://UPPER_case/x", "https://bucket", "s3://a b/c"])
def test_what_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="bucket address"):
        address_of(url)


@pytest.mark.parametrize("text", ["file:///etc", "https://", "https://me:pw@host", "http://a b", "https://a:99999"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not the address") as caught:
        endpoint_of(text)
    assert "pw" not in str(caught.value)


def test_sizes_are_for_people() -> None:
    assert [size(999), size(1000), size(31457280), size(2e12)] == ["999 B", "1.0 kB", "31.5 MB", "2.0 TB"]
