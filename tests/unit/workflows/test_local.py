"""Which repository of this machine a run may check out, and how its path is looked at."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from appliance import apply
from appliance.errors import UsageError
from appliance.spec.load import load_text, parse
from appliance.spec.models import Job, Workflow
from appliance.state import resources, runs, triggers
from appliance.state.db import Database
from appliance.workflows.steps import local, own_repository
from appliance.workflows.submit import start_run
from tests.support.descriptors import open_below

STRANGER = 12345
EVENT = "context.event.github.url"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What git would take for a bare repository."""
    made = tmp_path / "site.git"
    (made / "objects").mkdir(parents=True)
    (made / "HEAD").touch()
    return made


def test_a_folder_is_known_by_what_it_is(site: Path) -> None:
    about = site.stat()
    for path in (f"{site}", f"{site}/", f"//{site}/./"):
        found = local.look(path, inside=True)
        assert (found.path, found.device, found.inode) == (site, about.st_dev, about.st_ino)
        assert (found.uid, found.gid) == (about.st_uid, about.st_gid)


@pytest.mark.parametrize("leads", ["absolute", "relative", "above", "twice", "in the middle"])
def test_a_link_of_the_administrator_is_followed(site: Path, tmp_path: Path, leads: str) -> None:
    link = tmp_path / "link"
    match leads:
        case "absolute":
            link.symlink_to(site)
        case "relative":
            link.symlink_to("site.git")
        case "above":
            link.symlink_to(f"../{tmp_path.name}/./site.git")
        case "twice":
            (tmp_path / "first").symlink_to("site.git")
            link.symlink_to("first")
        case _:
            (tmp_path / "parent").symlink_to(tmp_path)
            link = tmp_path / "parent" / "site.git"
    assert local.look(str(link)).path == site


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links for others")
@pytest.mark.parametrize("where", ["last", "in the middle"])
def test_a_link_of_anybody_else_is_not_followed(site: Path, tmp_path: Path, where: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(site if where == "last" else tmp_path)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(UsageError, match=f"{link}, a link that another user can change"):
        local.look(str(link if where == "last" else link / "site.git"))


def test_what_is_no_repository_is_said(site: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "around").symlink_to("around")
    os.mkfifo(tmp_path / "pipe")
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    (worktree / ".git").write_text(f"gitdir: {site}\n")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / ".git").symlink_to(site)
    for name, words in {
        "none": "cannot be read: No such file",
        "file": "is no folder",
        "pipe": "is no folder",
        "around": "more than 20 links",
        "file/x": "cannot be read",
        "worktree": "no git repository of its own",
        "linked": "no git repository of its own",
    }.items():
        with pytest.raises(UsageError, match=words):
            local.look(str(tmp_path / name), inside=True)


def test_no_descriptor_is_left_open(site: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(site)
    for _ in range(5):
        local.look(str(tmp_path / "link"), inside=True)
        for name in ("none", "site.git/HEAD", "site.git/HEAD/x"):
            with pytest.raises(UsageError):
                local.look(str(tmp_path / name), inside=True)
        with pytest.raises(UsageError):
            local.look(str(tmp_path), inside=True)
    assert open_below(tmp_path) == []
    assert stat.S_ISDIR(site.stat().st_mode)


def document(url: str, checkout: str = EVENT) -> dict[str, object]:
    clone = {"uses": "git-checkout@v1", "with": {"url": checkout}, "outputs": {"tree": {"type": "volume"}}}
    return {"jobs": {"clone": clone}, "context": {"event": {"github": {"url": url, "ref": "main"}}}}


@pytest.fixture
def declared(tmp_path: Path, site: Path) -> tuple[Database, str]:
    """The state, and what the runs of the repository count for."""
    db = Database(tmp_path / "state.db")
    apply.apply(db, load_text(f"kind: repository\nname: site\nurl: {site}\n", file="site.yaml"), source="cli", now=1.0)
    uid = resources.get(db.read, "repository", "site").uid
    return db, f"{own_repository.COUNTS_FOR}{uid}:.gradient/workflows/w.yaml:site.w"


def test_a_run_of_the_repository_takes_its_own_path_only(
    declared: tuple[Database, str], site: Path, tmp_path: Path
) -> None:
    db, uid = declared
    run = start_run(db, None, "site.w", document(str(site)), {}, now=1.0, uid=uid)
    assert own_repository.given(db.read, uid, *_job(run)).path == str(site)
    for url in (str(tmp_path), f"{site}/", f"file://{site}", "/etc", "/"):
        with pytest.raises(UsageError, match="is a path of this machine"):
            start_run(db, None, "site.w", document(url), {}, now=1.0, uid=uid)
        with pytest.raises(UsageError, match="no repository at"):
            own_repository.given(db.read, uid, *_job(run, url))
    db.close()


@pytest.mark.parametrize("counts_for", ["", "undeclared:w", "repository:", "repository:other:x:y", "the workflow's"])
def test_no_other_run_takes_it(declared: tuple[Database, str], site: Path, counts_for: str) -> None:
    """Neither one that is started by hand, nor one whose file names the path as its event."""
    db, uid = declared
    with pytest.raises(UsageError, match="is a path of this machine"):
        start_run(db, None, "w", document(str(site)), {}, now=1.0, uid=counts_for)
    assert runs.newest(db.read) == []
    run = start_run(db, None, "site.w", document(str(site)), {}, now=1.0, uid=uid)
    with pytest.raises(UsageError, match="no repository at"):
        own_repository.given(db.read, counts_for, *_job(run))
    db.close()


def test_a_repository_that_has_gone_or_moved_gives_nothing_any_more(declared: tuple[Database, str], site: Path) -> None:
    db, uid = declared
    run = start_run(db, None, "site.w", document(str(site)), {}, now=1.0, uid=uid)
    elsewhere = "kind: repository\nname: site\nurl: https://example.com/a.git\n"
    apply.apply(db, load_text(elsewhere, file="site.yaml"), source="cli", now=2.0)
    with pytest.raises(UsageError, match=f"no repository at {site} is declared any more"):
        own_repository.given(db.read, uid, *_job(run))
    resources.remove(db.read, resources.get(db.read, "repository", "site").uid)
    with pytest.raises(UsageError, match="is declared any more"):
        own_repository.given(db.read, uid, *_job(run))
    db.close()


def test_a_repository_that_is_being_deleted_gives_nothing_any_more(declared: tuple[Database, str], site: Path) -> None:
    db, uid = declared
    run = start_run(db, None, "site.w", document(str(site)), {}, now=1.0, uid=uid)
    resources.set_deleting(db.read, resources.get(db.read, "repository", "site").uid, now=2.0)
    with pytest.raises(UsageError, match="is declared any more"):
        own_repository.given(db.read, uid, *_job(run))
    db.close()


def test_a_job_that_names_an_address_takes_that(declared: tuple[Database, str], site: Path) -> None:
    db, uid = declared
    run = start_run(db, None, "w", document(str(site), "https://example.com/a.git"), {}, now=1.0)
    assert own_repository.given(db.read, uid, *_job(run)).path == ""
    db.close()


def test_over_ssh_a_job_expects_the_keys_that_polling_went_by_and_does_not_run_without(tmp_path: Path) -> None:
    db, url = Database(tmp_path / "state.db"), "git@example.com:a/b"
    apply.apply(db, load_text(f"kind: repository\nname: site\nurl: {url}\n", file="site.yaml"), source="cli", now=1.0)
    repository = resources.get(db.read, "repository", "site").uid
    uid = f"{own_repository.COUNTS_FOR}{repository}:.gradient/workflows/w.yaml:site.w"
    action = {"url": EVENT, "password": "secret:KEY"}
    job = {"uses": "git-checkout@v1", "with": action, "outputs": {"tree": {"type": "volume"}}}
    written = {**document(url), "jobs": {"clone": job}}
    run = start_run(db, None, "site.w", written, {}, now=1.0, uid=uid)
    for known in ("", "\n"):
        with pytest.raises(UsageError, match=r"no key of the server of git@example\.com:a/b is known"):
            own_repository.given(db.read, uid, *_job(run))
        triggers.put(db.read, repository, own_repository.KNOWN_HOSTS, known, now=1.0)
    triggers.put(db.read, repository, own_repository.KNOWN_HOSTS, "example.com x\n", now=1.0)
    assert own_repository.given(db.read, uid, *_job(run)).known_hosts == "example.com x\n"
    db.close()


def _job(run: runs.Run, url: str = "") -> tuple[Workflow, Job]:
    spec = parse("workflow", run.workflow, run.spec)
    assert isinstance(spec, Workflow)
    if url:
        spec = spec.model_copy(update={"event": {**spec.event, "url": url}})
    return spec, spec.jobs["clone"]
