"""What git-checkout@v1 accepts, and what it keeps out of sight."""

from __future__ import annotations

import pytest

from appliance.errors import UsageError
from appliance.spec.models import GitCheckoutAction, Job, Output
from appliance.workflows.actions import task_of
from appliance.workflows.checkout import checkout_of, files_of

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


def test_credentials_are_in_files_only() -> None:
    action = GitCheckoutAction(url=URL, username="me", password="secret:TOKEN")
    task = task_of(job(action), env={}, event={}, reveal=lambda text: text.replace("secret:TOKEN", "hunter2"))
    assert "hunter2" not in " ".join([*(task.entrypoint or ()), *(task.command or ())])
    assert (task.files["username"], task.files["password"], task.secret) == ("me", "hunter2", True)
    assert task.files["origin"] == "https://example.com"
    assert "hunter2" not in task.files["checkout"] + task.files["credential"]


def test_a_password_of_two_lines_is_refused() -> None:
    action = GitCheckoutAction(url=URL)
    with pytest.raises(UsageError, match="one line"):
        files_of(checkout_of(action, job(action), {}, {}), "", "a\nhost=evil")
