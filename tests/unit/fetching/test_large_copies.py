"""What a lean checkout does without."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.fetching.inside import git_checkout


@pytest.mark.parametrize("name", ["lfs", "vendor/lfs", "a/lfs/lfs"])
def test_a_submodule_with_the_name_of_that_folder_keeps_its_history(tmp_path: Path, name: str) -> None:
    repositories = [tmp_path / ".git", tmp_path / ".git/modules/vendor", tmp_path / ".git/modules" / name]
    for repository in repositories:
        (repository / "lfs/objects").mkdir(parents=True)
        (repository / "objects").mkdir(exist_ok=True)
        (repository / "HEAD").write_text("ref: refs/heads/main")
    found = set(git_checkout.large_copies(str(tmp_path)))
    assert not found & {repository / "objects" for repository in repositories}
    kept = {repository / "lfs/objects" for repository in repositories} - {
        repository / "objects" for repository in repositories
    }
    assert found == kept
