"""What git-checkout@v1 accepts, and what it keeps out of sight."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import UsageError
from appliance.fetching.git import files_of
from appliance.fetching.inside import git_checkout
from appliance.spec.models import GitCheckoutAction, Job, Output, Value
from appliance.spec.refs import EVENT_URL
from appliance.workflows.steps import local
from appliance.workflows.steps.actions import task_of
from appliance.workflows.steps.checkout import checkout_of
from tests.support.git import GitServer, Repository

REPO = {"repo": Output(type="volume")}
URL = "https://example.com/a/b.git"


def job(action: GitCheckoutAction, outputs: dict[str, Output] | None = None) -> Job:
    return Job(action=action, outputs=REPO if outputs is None else outputs)


def checkout(
    url: str = URL, ref: str = "", path: str = "", outputs: dict[str, Output] | None = None, **env: str
) -> str:
    action = GitCheckoutAction(url=url, ref=ref, path=path)
    event = {"url": "https://example.com/event", "ref": "0" * 40}
    found = checkout_of(action, job(action, outputs), env, event)
    return f"{found.url} {found.ref} {found.target}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, f"{URL}  /outputs/repo"),
        ({"ref": "feature/x"}, f"{URL} feature/x /outputs/repo"),
        ({"path": "/outputs/repo/deep/"}, f"{URL}  /outputs/repo/deep"),
        ({"url": "http://host.local:8080/r", "ref": "v1.2"}, "http://host.local:8080/r v1.2 /outputs/repo"),
        ({"url": "git://example.com/r"}, "git://example.com/r  /outputs/repo"),
        ({"url": "http://[::1]:8080/r"}, "http://[::1]:8080/r  /outputs/repo"),
        ({"url": "https://me:p%40ss@example.com/r"}, "https://example.com/r  /outputs/repo"),
        (
            {"url": "context.event.github.url", "ref": "context.event.github.ref"},
            f"https://example.com/event {'0' * 40} /outputs/repo",
        ),
        ({"ref": "$GIT_REF", "GIT_REF": "main"}, f"{URL} main /outputs/repo"),
        ({"url": "https://${HOST}/r", "HOST": "example.com"}, "https://example.com/r  /outputs/repo"),
    ],
)
def test_what_is_checked_out(arguments: dict[str, str], expected: str) -> None:
    assert checkout(**arguments) == expected  # type: ignore[arg-type]  # outputs is never among them


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"url": "file:///etc"}, "a path, which a job may not choose"),
        ({"url": "/srv/repo"}, "a path, which a job may not choose"),
        ({"url": "ext::sh -c id"}, "no address"),
        ({"url": "ext::id"}, "no address"),
        ({"url": "https::ssh://x/y"}, "no address"),
        ({"url": "--upload-pack=id"}, "no address"),
        ({"url": "https://a/\nb"}, "no address"),
        ({"url": "https://a:99999/b"}, "no address"),
        ({"url": "https:///b"}, "no address"),
        ({"url": "ftp://example.com/b"}, "no address"),
        ({"url": "git@github.com:a/b.git"}, "over SSH, which a job may not choose"),
        ({"url": "ssh://git@github.com/a/b"}, "over SSH, which a job may not choose"),
        ({"ref": "--force"}, "not a branch"),
        ({"ref": "a b"}, "not a branch"),
        ({"ref": "a..b"}, "not a branch"),
        ({"ref": "$MISSING"}, r"\$MISSING"),
        ({"path": "/outputs/../etc"}, "below /outputs"),
        ({"path": "/inputs/repo"}, "below /outputs"),
        ({"path": "/outputs"}, "below /outputs"),
        ({"url": "$U", "U": "file:///etc"}, "a path, which a job may not choose"),
        ({"ref": "$R", "R": "-x"}, "not a branch"),
    ],
)
def test_what_is_refused(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        checkout(**arguments)  # type: ignore[arg-type]  # as above


def test_an_ssh_address_is_told_its_https_form() -> None:
    with pytest.raises(UsageError) as caught:
        checkout(url="git@github.com:a/b.git")
    assert "https://github.com/a/b.git" in caught.value.hint


def test_the_place_must_be_clear() -> None:
    two = {"a": Output(type="volume"), "b": Output(type="dataset", ref="x"), "c": Output(type="string")}
    with pytest.raises(UsageError, match="2 outputs"):
        checkout(outputs=two)
    assert checkout(outputs=two, path="/outputs/b").endswith("/outputs/b")
    with pytest.raises(UsageError, match="no output"):
        checkout(outputs={})


def test_an_event_token_needs_an_event() -> None:
    action = GitCheckoutAction(url="context.event.github.url")
    with pytest.raises(UsageError, match="no GitHub event"):
        checkout_of(action, job(action), {}, {})


def request_of(action: GitCheckoutAction, **env: str) -> dict[str, str]:
    task = task_of(job(action), env=env, event={}, reveal=lambda text: text.replace("secret:TOKEN", "hunter2"))
    assert "hunter2" not in " ".join([*(task.entrypoint or ()), *(task.command or ())])
    assert "hunter2" not in task.files["git_checkout.py"]
    assert task.secret
    found: dict[str, str] = json.loads(task.files["request.json"])
    return found


def test_credentials_are_in_a_private_file_only() -> None:
    found = request_of(GitCheckoutAction(url=URL, username="me", password="secret:TOKEN"))
    assert (found["username"], found["password"], found["origin"]) == ("me", "hunter2", "https://example.com")
    assert found["url"] == URL


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:$TOKEN@example.com/r", ("me", "hunter2")),
        ("https://$TOKEN@example.com/r", ("x-access-token", "hunter2")),
        ("https://me:a%40b@example.com:8443/r", ("me", "a@b")),
    ],
)
def test_credentials_of_an_address_do_not_stay_in_it(url: str, expected: tuple[str, str]) -> None:
    found = request_of(GitCheckoutAction(url=url), TOKEN="hunter2")
    assert (found["username"], found["password"]) == expected
    assert "@" not in found["url"] + found["origin"]


def test_a_refused_address_shows_no_password() -> None:
    with pytest.raises(UsageError) as caught:
        checkout("ftp://me:hunter2@example.com/r")
    assert "hunter2" not in str(caught.value)


def test_the_dialect_of_2021_has_its_password_in_the_environment_and_its_volume_in_the_inputs() -> None:
    action = GitCheckoutAction(url=URL)
    assert request_of(action, GIT_PASSWORD="hunter2")["password"] == "hunter2"
    old = Job(action=action, inputs={"code": Value(type="volume"), "text": Value(type="string", value="x")})
    assert checkout_of(action, old, {}, {}).target == "/inputs/code"


def test_git_is_answered_for_the_one_server_only() -> None:
    found = request_of(GitCheckoutAction(url="https://example.com:8443/a/b", password="secret:TOKEN"))

    def asked(action: str = "get", protocol: str = "https", host: str = "example.com:8443") -> str:
        return git_checkout.credential(found, [action], f"protocol={protocol}\nhost={host}\n\n")

    assert asked() == "username=x-access-token\npassword=hunter2\n"
    others = [asked(host=host) for host in ("example.com", "evil.com", "example.com:8443.evil.com")]
    assert [*others, asked(protocol="http"), asked("store"), asked("erase")] == [""] * 6


def test_git_gets_its_settings_from_nowhere_else_and_no_secret_with_them() -> None:
    found = request_of(GitCheckoutAction(url=URL, password="secret:TOKEN"))
    environment = git_checkout.environment(found)
    assert "hunter2" not in json.dumps(environment)
    assert environment["GIT_ALLOW_PROTOCOL"] == "https:http:git"
    assert (environment["GIT_CONFIG_NOSYSTEM"], environment["GIT_CONFIG_GLOBAL"]) == ("1", "/dev/null")


def test_a_password_of_two_lines_is_refused() -> None:
    action = GitCheckoutAction(url=URL)
    with pytest.raises(UsageError, match="one line"):
        files_of(checkout_of(action, job(action), {}, {}), "", "a\nhost=evil")


def cloned(
    folder: Path, repository: Repository, ref: str = "", commit: str = "", *, bound: Path | None = None
) -> tuple[str, str, Path]:
    """The last line that the program writes, the commit that it tells, and the checkout.

    A repository without an address is one of this machine; `bound` is what lies where a container has it.
    """
    folder.mkdir()
    target = folder / "repo"
    (folder / "told").mkdir()
    path = str(repository.path)
    action = GitCheckoutAction(url=repository.url or EVENT_URL, ref=ref)
    place = None if repository.url else local.look(path, inside=True)
    found = checkout_of(action, job(action), {}, {"url": path})
    files = files_of(found, "me", "hunter2", commit=commit, place=place)
    request = {**json.loads(files["request.json"]), "target": str(target), "told": str(folder / "told" / "commit")}
    if place:
        assert "hunter2" not in files["request.json"]
        request["bound"]["path"] = str(bound or place.path)
        if bound and not bound.exists():
            place.path.rename(bound)
    for name, text in {**files, "request.json": json.dumps(request)}.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, str(folder / "git_checkout.py")], capture_output=True, text=True, timeout=60, check=False
    )
    told = folder / "told" / "commit"
    said = (done.stdout + done.stderr).splitlines()[-1].removeprefix("appliance: ")
    assert told.is_file() == (done.returncode == 0)
    return said.replace(str(target), "TARGET"), told.read_text() if told.is_file() else "", target


def test_the_commit_is_told_and_named_once(tmp_path: Path, local_git_server: GitServer) -> None:
    code = local_git_server.repository("a/b", {"file": "1"})
    commit = code.head()
    assert cloned(tmp_path / "branch", code)[:2] == (f"branch main at {commit} is in TARGET", commit)
    for number, ref in enumerate((commit, commit[:10])):
        assert cloned(tmp_path / str(number), code, ref)[:2] == (f"commit {commit} is in TARGET", commit)


@pytest.mark.parametrize("ref", ["", "main", "refs/heads/main", "v1"])
@pytest.mark.parametrize("gives", ["any commit", "what its refs name only"])
def test_the_commit_of_then_is_checked_out_although_its_ref_has_moved(
    tmp_path: Path, local_git_server: GitServer, ref: str, gives: str
) -> None:
    code = local_git_server.repository("a/b", {"file": "then"})
    code.tag("v1")
    commit = code.head()
    moved = code.commit({"file": "now"})
    code.tag("v1", moved)
    if gives != "any commit":
        local_git_server.only_refs = True
    said, told, target = cloned(tmp_path / "x", code, ref, commit)
    assert told == commit, said
    assert f"at {commit} is in TARGET" in said
    assert (target / "file").read_text() == "then"
    git = ["git", "-C", str(target), "-c", "safe.directory=*"]
    branch = subprocess.run([*git, "branch", "--show-current"], capture_output=True, text=True, check=True).stdout
    assert branch.strip() == ("main" if ref in ("", "main") else "")


def test_a_commit_that_the_server_has_no_more_is_refused_in_words(tmp_path: Path, local_git_server: GitServer) -> None:
    code = local_git_server.repository("a/b", {"file": "now"})
    for number, ref in enumerate(("", "main", "refs/heads/main")):
        said, told, _ = cloned(tmp_path / str(number), code, ref, "0" * 40)
        assert said == f"commit {'0' * 40}, which this job is to check out again, is not in {code.url} any more"
        assert told == ""
    code.delete("refs/heads/main")
    said, _, _ = cloned(tmp_path / "empty", code, "main", "0" * 40)
    assert "is not in" in said


SSH_URL = "ssh://git@example.com/a/b.git"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----"


def test_a_key_over_ssh_is_in_a_private_file_of_its_own() -> None:
    action = GitCheckoutAction(url=EVENT_URL, password="secret:KEY")
    task = task_of(
        job(action),
        env={},
        event={"url": SSH_URL},
        reveal=lambda text: KEY if text else "",
        known_hosts="example.com x",
    )
    request = json.loads(task.files["request.json"])
    assert (request["url"], request["origin"], request["password"]) == (SSH_URL, "", "")
    assert request["protocols"] == "https:http:git:ssh"
    assert (task.files["ssh-key"], task.files["ssh-known-hosts"]) == (f"{KEY}\n", "example.com x")
    assert [name for name, text in task.files.items() if "hunter2" in text] == ["ssh-key"]
    assert task.secret
    assert task.mounts == ()


@pytest.mark.parametrize("known", ["", "example.com x"])
def test_a_job_takes_no_server_that_polling_has_not_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    monkeypatch.setattr(git_checkout, "HERE", tmp_path / "git_checkout.py")
    assert git_checkout.secure_shell() == {}
    (tmp_path / "ssh-key").write_text(KEY)
    (tmp_path / "ssh-known-hosts").write_text(known)
    command = git_checkout.secure_shell()["GIT_SSH_COMMAND"].split()
    assert "StrictHostKeyChecking=yes" in command
    assert f"UserKnownHostsFile={tmp_path}/ssh-known-hosts" in command
    assert "GlobalKnownHostsFile=/dev/null" in command


def test_an_address_over_ssh_needs_a_key() -> None:
    action = GitCheckoutAction(url=EVENT_URL)
    with pytest.raises(UsageError, match="`password` must be the private key that opens ssh://…@"):
        checkout_of(action, job(action), {}, {"url": SSH_URL})


def test_the_repository_of_this_machine_is_bound_read_only_and_gets_no_credentials(here: Repository) -> None:
    action = GitCheckoutAction(url=EVENT_URL, username="me", password="secret:TOKEN")
    event, place = {"url": str(here.path)}, local.look(str(here.path), inside=True)
    task = task_of(job(action), env={}, event=event, reveal=lambda _: "hunter2", place=place)
    (mount,) = task.mounts
    assert (mount.source, mount.target, mount.read_only) == (here.path, "/run/appliance-repository", True)
    assert "hunter2" not in str(task.files)
    with pytest.raises(UsageError, match="a path of this machine that this job is not given"):
        task_of(job(action), env={}, event=event, reveal=lambda _: "hunter2")


@pytest.fixture
def here(tmp_path: Path) -> Repository:
    """A repository of this machine."""
    made = Repository(tmp_path / "site.git", "")
    made.commit({"file": "then"})
    return made


@pytest.mark.parametrize("ref", ["", "main", "refs/heads/main", "v1", "commit", "short"])
def test_a_repository_of_this_machine_is_cloned_from_where_it_is_bound(
    tmp_path: Path, here: Repository, ref: str
) -> None:
    then = here.head()
    here.tag("v1")
    now = here.commit({"file": "now"})
    wanted = {"commit": then, "short": then[:9]}.get(ref, ref)
    said, told, target = cloned(tmp_path / "job", here, wanted, bound=tmp_path / "bound")
    old = ref in ("v1", "commit", "short")
    assert told == (then if old else now), said
    assert (target / "file").read_text() == ("then" if old else "now")
    git = ["git", "-C", str(target), "-c", "safe.directory=*"]
    shown = subprocess.run([*git, "remote", "get-url", "origin"], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(here.path), "the job sees where it is from, and not where it was bound"


def test_a_working_tree_is_bound_without_its_files(tmp_path: Path) -> None:
    tree = tmp_path / "project"
    subprocess.run(["git", "init", "-q", "-b", "main", str(tree)], check=True)
    here = Repository.__new__(Repository)
    here.path, here.url = tree / ".git", ""
    here.commit({"file": "text"})
    (tree / "untracked").write_text("private")
    here.path = tree
    assert local.look(str(tree), inside=True).path == tree / ".git"
    said, told, target = cloned(tmp_path / "job", here)
    assert (target / "file").read_text() == "text", said
    assert told


def test_what_was_put_in_the_place_of_a_repository_is_not_read(tmp_path: Path, here: Repository) -> None:
    """By who owns it, between the daemon's look and the engine's."""
    other = Repository(tmp_path / "other.git", "")
    other.commit({"file": "private"})
    said, told, target = cloned(tmp_path / "job", here, bound=other.path)
    assert said == f"what lies at {here.path} was replaced while the job began: start the run again"
    assert (told, target.exists()) == ("", False)


@pytest.mark.parametrize("names", ["../other.git", "file:///{}/other.git", "{}/other.git"])
def test_a_repository_of_this_machine_leads_to_no_other(tmp_path: Path, here: Repository, names: str) -> None:
    other = Repository(tmp_path / "other.git", "")
    other.commit({"file": "private"})
    here.commit({}, modules={"sub": other})
    url = names.format(str(tmp_path).lstrip("/") if names.startswith("file") else tmp_path)
    here.commit({".gitmodules": f'[submodule "sub"]\n\tpath = sub\n\turl = {url}\n'})
    said, told, target = cloned(tmp_path / "job", here)
    assert "protocol that a job may not use" in said
    assert told == ""
    assert not (target / "sub" / "file").exists()


def test_large_files_of_a_repository_of_this_machine(tmp_path: Path, here: Repository) -> None:
    if shutil.which("git-lfs") is None:
        pytest.skip("no git-lfs")
    here.commit_lfs("large.bin", b"large")
    ((oid, content),) = here.lfs.items()
    place = here.path / "lfs" / "objects" / oid[:2] / oid[2:4]
    place.mkdir(parents=True)
    (place / oid).write_bytes(content)
    said, _, target = cloned(tmp_path / "job", here, bound=tmp_path / "bound")
    assert (target / "large.bin").read_bytes() == b"large", said
