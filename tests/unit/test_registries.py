"""Logins at registries: sealed in the file, found by the image's server, and never told to another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import revisions
from appliance.engine.pull import Login, server_of
from appliance.errors import NotFound, UsageError
from appliance.revisions.preview import preview
from appliance.spec.load import load_text
from appliance.state import events, resources, rollouts
from appliance.state.db import Database
from appliance.vault.registries import Registries, place
from appliance.vault.secrets import Secrets
from tests.conftest import Clock


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture
def registries(db: Database, tmp_path: Path, clock: Clock) -> Registries:
    return Registries(db, Secrets(db, tmp_path / "secret.key", clock), clock)


def add(registries: Registries, name: str, url: str, password: str = "hunter22-is-here") -> None:
    registries.set(name, url=url, username=f"of-{name}", password=password)


def user(login: Login) -> str:
    return login.auth["username"] if login.auth else ""


def test_what_is_set_is_listed_without_its_password(registries: Registries) -> None:
    registries.set("mine", url="ghcr.io", username="me", password="hunter22-is-here")
    registries.set("mine", url="https://ghcr.io", username="you", password="hunter22-is-here")
    (found,) = registries.every()
    assert (found.name, found.url, found.username) == ("mine", "https://ghcr.io", "you")
    assert "hunter22" not in repr(found)
    assert "hunter22" not in repr(registries.login(["mine"], "ghcr.io/x/y"))


def test_neither_the_state_file_nor_the_events_hold_the_password(
    registries: Registries, db: Database, tmp_path: Path
) -> None:
    add(registries, "mine", "ghcr.io")
    db.read.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"hunter22" not in (tmp_path / "state.db").read_bytes()
    assert "hunter22" not in str(events.newest(db.read))
    assert [event.reason for event in events.newest(db.read, kind="registry")] == ["Set"]


def test_a_forgotten_one_is_gone(registries: Registries) -> None:
    add(registries, "mine", "ghcr.io")
    registries.delete("mine")
    assert not registries.every()
    with pytest.raises(NotFound):
        registries.delete("mine")


@pytest.mark.parametrize(
    ("name", "url", "username", "password"),
    [
        ("../x", "ghcr.io", "me", "x"),
        ("mine", "", "me", "x"),
        ("mine", "ftp://ghcr.io", "me", "x"),
        ("mine", "https://me:pass@ghcr.io", "me", "x"),
        ("mine", "ghcr.io?x=1", "me", "x"),
        ("mine", "gh cr.io", "me", "x"),
        ("mine", "https://", "me", "x"),
        ("mine", "ghcr.io:0", "me", "x"),
        ("mine", "ghcr.io\n", "me", "x"),
        ("mine", "https://[::1", "me", "x"),
        ("mine", "ghcr.io", "", "x"),
        ("mine", "ghcr.io", "a:b", "x"),
        ("mine", "ghcr.io", "a\nb", "x"),
        ("mine", "ghcr.io", "me", ""),
        ("mine", "ghcr.io", "me", "x" * 20_000),
    ],
)
def test_what_cannot_be_one_is_refused(
    registries: Registries, name: str, url: str, username: str, password: str
) -> None:
    with pytest.raises(UsageError) as caught:
        registries.set(name, url=url, username=username, password=password)
    assert not registries.every()
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "server", "path"),
    [
        ("https://index.docker.io/v1/", "docker.io", ""),
        ("docker.io", "docker.io", ""),
        ("https://hub.docker.com/", "docker.io", ""),
        ("gcr.io/my-project", "gcr.io", "my-project"),
        ("https://GHCR.io", "ghcr.io", ""),
        ("http://127.0.0.1:5000", "127.0.0.1:5000", ""),
        ("https://ghcr.io:443/v2/", "ghcr.io", ""),
        ("http://reg.example:80", "reg.example", ""),
        ("http://reg.example:443", "reg.example:443", ""),
        ("http://[::1]:5000/v2/", "[::1]:5000", ""),
        ("registry.digitalocean.com/team", "registry.digitalocean.com", "team"),
    ],
)
def test_where_a_registry_is(url: str, server: str, path: str) -> None:
    assert place(url) == (server, path)


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("team/app:1", "docker.io/team/app"),
        ("index.docker.io/team/app", "docker.io/team/app"),
        ("GHCR.io/x/y@sha256:" + "a" * 64, "ghcr.io/x/y"),
        ("127.0.0.1:5000/team/tiny:1", "127.0.0.1:5000/team/tiny"),
        ("localhost/x", "localhost/x"),
        ("-x.y/z", ""),
    ],
)
def test_where_an_image_is(ref: str, found: str) -> None:
    assert server_of(ref) == found


def test_a_login_is_for_the_server_of_the_image(registries: Registries) -> None:
    add(registries, "hub", "https://index.docker.io/v1/")
    add(registries, "git", "https://ghcr.io")
    assert registries.login(["hub"], "nginx").auth == {
        "username": "of-hub",
        "password": "hunter22-is-here",
        "serveraddress": "docker.io",
    }
    assert user(registries.login(["hub", "git"], "ghcr.io/x/y:2")) == "of-git"
    assert registries.login([], "nginx") == Login()


def test_of_several_at_a_server_the_nearest_is_taken(registries: Registries) -> None:
    for name, url in {"all": "gcr.io", "one": "gcr.io/one", "inner": "gcr.io/one/inner", "two": "gcr.io/two"}.items():
        add(registries, name, url)
    names = ["two", "all", "one", "inner"]
    assert user(registries.login(names, "gcr.io/one/app")) == "of-one"
    assert user(registries.login(names, "gcr.io/one/inner/app")) == "of-inner"
    assert user(registries.login(names, "gcr.io/oneself/app")) == "of-all"
    assert user(registries.login(["two"], "gcr.io/one/app")) == "of-two"


def test_what_is_wrong_is_told_where_the_registry_refuses(registries: Registries) -> None:
    add(registries, "git", "ghcr.io")
    missing, elsewhere, wrong = (
        registries.login(["none"], "nginx"),
        registries.login(["git"], "nginx"),
        registries.login(["git"], "ghcr.io/x"),
    )
    assert "registry add none" in missing.refused
    assert "docker.io" in elsewhere.refused
    assert "'git' is at ghcr.io" in elsewhere.refused
    assert "does not let of-git have it" in wrong.refused


def test_another_key_is_no_login(registries: Registries, db: Database, tmp_path: Path, clock: Clock) -> None:
    add(registries, "git", "ghcr.io")
    (tmp_path / "secret.key").unlink()
    again = Registries(db, Secrets(db, tmp_path / "secret.key", clock), clock)
    found = again.login(["git"], "ghcr.io/x")
    assert found.auth is None
    assert "cannot be read" in found.refused


def test_who_waits_for_a_login_is_told_of_it(registries: Registries, db: Database, clock: Clock) -> None:
    def declare(name: str, registry: str) -> str:
        with db.write() as inside:
            document = {"image": "x", "containerRegistry": registry}
            found = resources.put(inside, "deployment", name, document, source="cli", now=clock())[0]
            revisions.declare(inside, found, now=clock())
        return found.uid

    waits, knows, other = declare("waits", "mine"), declare("knows", "mine"), declare("other", "another")
    with db.write() as inside:
        rollouts.set_pin(inside, knows, 1, {"image": "sha256:1"}, began=None)
    clock.now += 10
    assert registries.set("mine", url="ghcr.io", username="me", password="x") == [waits]
    asked = {uid: resources.find_uid(db.read, uid) for uid in (waits, knows, other)}
    assert [row is not None and row.updated == clock() for row in asked.values()] == [True, False, False]


def test_a_dry_run_tells_of_a_login_that_is_not_there(registries: Registries, db: Database) -> None:
    (spec,) = load_text("name: web\nimage: ghcr.io/x/y\ncontainerRegistry: git\n", file="web.yaml")
    assert [one for one in preview(db.read, spec).missing if "registry add git" in one]
    add(registries, "git", "ghcr.io")
    assert not preview(db.read, spec).missing


HOSTS = ["docker.io", "ghcr.io", "gcr.io", "evil.example", "127.0.0.1:5000", "127.0.0.1:5001", "ghcr.io.evil.example"]


@given(st.data())
def test_a_password_goes_to_its_own_server_only(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("registries")
    db = Database(folder / "state.db")
    try:
        registries = Registries(db, Secrets(db, folder / "key", lambda: 1.0), lambda: 1.0)
        chosen = data.draw(st.lists(st.sampled_from(HOSTS), unique=True, min_size=1))
        for number, host in enumerate(chosen):
            registries.set(f"r{number}", url=host, username="me", password=f"of {host}")
        names = data.draw(st.lists(st.sampled_from([f"r{number}" for number in range(len(HOSTS))]), unique=True))
        host = data.draw(st.sampled_from(HOSTS))
        found = registries.login(names, f"{host}/team/app:1")
        wanted = host in [chosen[int(name[1:])] for name in names if int(name[1:]) < len(chosen)]
        assert (found.auth is not None) == wanted
        assert found.auth is None or (found.auth["password"], found.auth["serveraddress"]) == (f"of {host}", host)
    finally:
        db.close()
