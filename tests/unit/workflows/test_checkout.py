"""What git-checkout@v1 accepts, and what it keeps out of sight."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import UsageError
from appliance.spec.models import GitCheckoutAction, Job, Output, Value
from appliance.workflows.actions import task_of
from appliance.workflows.checkout import checkout_of, files_of
from appliance.workflows.inside import git_checkout
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
        ({"url": "file:///etc"}, "no protocol"),
        ({"url": "/srv/repo"}, "no protocol"),
        ({"url": "ext::sh -c id"}, "not an address"),
        ({"url": "ext::id"}, "no protocol"),
        ({"url": "https::ssh://x/y"}, "no protocol"),
        ({"url": "--upload-pack=id"}, "not an address"),
        ({"url": "https://a/\nb"}, "not an address"),
        ({"url": "https://a:99999/b"}, "not an address"),
        ({"url": "https:///b"}, "no protocol"),
        ({"url": "git@github.com:a/b.git"}, "SSH key"),
        ({"url": "ssh://git@github.com/a/b"}, "SSH key"),
        ({"ref": "--force"}, "not a branch"),
        ({"ref": "a b"}, "not a branch"),
        ({"ref": "a..b"}, "not a branch"),
        ({"ref": "$MISSING"}, r"\$MISSING"),
        ({"path": "/outputs/../etc"}, "below /outputs"),
        ({"path": "/inputs/repo"}, "below /outputs"),
        ({"path": "/outputs"}, "below /outputs"),
        ({"url": "$U", "U": "file:///etc"}, "no protocol"),
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


def cloned(folder: Path, repository: Repository, ref: str = "", commit: str = "") -> tuple[str, str, Path]:
    """The last line that the program writes, the commit that it tells, and the checkout."""
    folder.mkdir()
    target = folder / "repo"
    (folder / "told").mkdir()
    action = GitCheckoutAction(url=repository.url, ref=ref)
    files = files_of(checkout_of(action, job(action), {}, {}), "", "", commit=commit)
    request = {**json.loads(files["request.json"]), "target": str(target), "told": str(folder / "told" / "commit")}
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
