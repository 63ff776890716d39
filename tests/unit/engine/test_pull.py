from __future__ import annotations

import pytest

from appliance.engine.pull import Tally, unavailable
from appliance.errors import EngineError, ImageNotFound


def test_a_pull_is_told_layer_by_layer() -> None:
    tally = Tally("a:1")
    assert tally.line() == "a:1: asking its registry"
    tally.add({"status": "Pulling from library/a", "id": "1"})
    tally.add({"status": "Pulling fs layer", "id": "l1"})
    tally.add({"status": "Already exists", "id": "l2"})
    tally.add({"status": "Downloading", "id": "l1", "progressDetail": {"current": 5_000_000, "total": 20_000_000}})
    assert tally.line() == "a:1: pulling, 1 of 2 layers, 5 of 20 MB"
    tally.add({"status": "Download complete", "id": "l1"})
    tally.add({"status": "Extracting", "id": "l1", "progressDetail": {"current": 1, "total": 2}})
    assert tally.line() == "a:1: pulling, 1 of 2 layers, 20 of 20 MB"
    tally.add({"status": "Pull complete", "id": "l1"})
    tally.add({"status": "Digest: sha256:1"})
    assert tally.line() == "a:1: pulling, 2 of 2 layers, 20 of 20 MB"


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("manifest for a:1 not found: manifest unknown", "name and tag"),
        ("pull access denied for a, repository does not exist or may require 'docker login'", "docker login"),
        ('Get "https://r.example/v2/": dial tcp: lookup r.example: no such host', "docker load"),
        ("something else", "docker pull a:1"),
    ],
)
def test_why_an_image_cannot_be_had(message: str, hint: str) -> None:
    found = unavailable("a:1", message)
    assert isinstance(found, ImageNotFound)
    assert (found.message, found.where) == (message, "a:1")
    assert hint in found.hint


def test_a_refused_login_says_its_own_next_step() -> None:
    found = unavailable("a:1", "unauthorized: incorrect username or password", "`appliance registry add mine`")
    assert found.hint == "`appliance registry add mine`"


def test_a_full_disk_is_not_a_missing_image() -> None:
    found = unavailable("a:1", "failed to register layer: write /x: no space left on device")
    assert type(found) is EngineError
    assert "docker system df" in found.hint
