"""What a workspace's `.gradient/settings.yaml` asks for, and that no such file holds up a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import NotFound
from appliance.notebooks import settings_file
from appliance.notebooks.settings_file import MOST_BYTES, PLACE, look, pinned, read, told

CORPUS = Path(__file__).parents[4] / "shared" / "corpus" / "notebook-settings"


def test_references_in_both_forms_and_of_a_key_that_is_there_twice_the_last() -> None:
    found = read(
        b"integrations:\n  a: {type: dataset, ref: 'team/ds1abc:latest'}\n  b: {id: mnist, version: v2}\n"
        b"  c: {type: dataset, id: mnist}\n  a: {type: dataset, ref: later}\n"
    )
    assert found.datasets == {"a": "later", "b": "mnist:v2", "c": "mnist"}
    assert found.words == []


def test_a_version_that_looks_like_a_number_is_taken_as_it_is_written() -> None:
    assert read(b"integrations: {a: {id: mnist, version: 007}}").datasets == {"a": "mnist:007"}


@pytest.mark.parametrize("data", [b"", b"\n", b"# nothing\n", b"integrations:\n", b"other: 1\n", b"\xef\xbb\xbf---\n"])
def test_a_file_that_asks_for_nothing(data: bytes) -> None:
    assert read(data) == settings_file.Wanted()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"- a\n", "not a map"),
        (b"integrations: [a]\n", "not a map of names"),
        (b"integrations: {a: b}\n", "'a' is not mounted: it is not a map"),
        (b"integrations: {a: {type: s3, url: s3://x}}\n", "type 's3' are not mounted in notebooks"),
        (b"integrations: {a: {type: dataset}}\n", "it names no dataset"),
        (b"integrations: {../x: {ref: a}}\n", "cannot be a folder's name"),
        (b"a: [\n", "line"),
        (b"a: \xff\n", "UTF-8"),
        (b"a: &a [*a]\n", "contains itself"),
    ],
)
def test_what_cannot_be_followed_is_said_with_the_next_step(data: bytes, words: str) -> None:
    found = read(data)
    assert found.datasets == {}
    assert words in told(found.words).replace("`", "'").replace('"', "'")
    assert ";" in told(found.words)


@given(st.binary(max_size=300) | st.text(alphabet="integrations: {}[]&*!ref\n-'\"", max_size=200).map(str.encode))
def test_no_text_is_an_error(data: bytes) -> None:
    told(read(data).words)


def test_what_is_not_there_is_left_out_and_the_rest_is_mounted() -> None:
    def resolve(ref: str) -> str:
        if ref == "gone":
            raise NotFound("no dataset 'gone'", hint="`appliance dataset create gone`")
        return f"{ref}:1"

    wanted = read(b"integrations: {a: {ref: there}, b: {ref: gone}}")
    assert pinned(wanted, resolve) == {"a": "there:1"}
    assert "no dataset 'gone'; `appliance dataset create gone`" in told(wanted.words)


def test_the_file_is_read_in_the_workspace_and_nowhere_else(tmp_path: Path) -> None:
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    (workspace / ".gradient").mkdir(parents=True)
    assert look(workspace).datasets == {}
    outside.mkdir()
    (outside / "settings.yaml").write_text("integrations: {a: {ref: mnist}}")
    place = workspace / PLACE
    place.symlink_to(outside / "settings.yaml")
    assert look(workspace) == settings_file.Wanted()
    place.unlink()
    os.mkfifo(place)
    assert look(workspace) == settings_file.Wanted()
    place.unlink()
    place.write_bytes(b"#" * (MOST_BYTES + 1))
    assert "larger than" in told(look(workspace).words)
    place.write_text("integrations: {a: {ref: mnist}}")
    assert look(workspace).datasets == {"a": "mnist"}
    (workspace / ".gradient").rename(workspace / "gradient")
    (workspace / ".gradient").symlink_to("gradient")
    assert look(workspace).datasets == {}


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the shared corpus is not on this machine")
def test_every_file_of_the_corpus_is_followed() -> None:
    found = {file.name: read(file.read_bytes()) for file in sorted(CORPUS.glob("*.yaml"))}
    assert len(found) == 11
    assert [name for name, wanted in found.items() if wanted.words] == []
    assert [name for name, wanted in found.items() if not wanted.datasets] == [
        "AicademyHK--stable-diffusion-openday--settings.yaml"
    ]
    assert sum(len(wanted.datasets) for wanted in found.values()) >= 40
