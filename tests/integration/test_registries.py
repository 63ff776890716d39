"""Images from a registry that asks who it is: the login that a spec names, and nobody else's."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.errors import ImageNotFound
from appliance.state.db import Database
from appliance.vault.registries import Registries
from appliance.vault.secrets import Secrets
from tests.integration.test_images import forget
from tests.support.docker import BASE_IMAGE
from tests.support.registry import Registry, registry

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

LOGIN = "me:pass word"


@pytest.fixture
def registries(tmp_path: Path) -> Iterator[Registries]:
    db = Database(tmp_path / "state.db")
    yield Registries(db, Secrets(db, tmp_path / "key", lambda: 1.0), lambda: 1.0)
    db.close()


@pytest.fixture
def images(engine: Engine, registries: Registries, tmp_path: Path) -> Images:
    return Images(engine, base_image=BASE_IMAGE, work_dir=tmp_path / "work", logins=registries.login)


@pytest.fixture
def remote(engine: Engine) -> Iterator[Registry]:
    with registry(login=LOGIN, salt=engine.instance) as server:
        yield server


def add(registries: Registries, name: str, server: Registry, login: str = LOGIN) -> None:
    user, _, password = login.partition(":")
    registries.set(name, url=f"http://127.0.0.1:{server.server_port}", username=user, password=password)


async def refusal(images: Images, ref: str, *names: str) -> str:
    with pytest.raises(ImageNotFound) as caught:
        await images.ensure(ref, registries=names)
    return caught.value.hint


async def test_a_private_image_needs_its_login(
    engine: Engine, images: Images, registries: Registries, remote: Registry
) -> None:
    assert "registry add NAME" in await refusal(images, remote.ref)
    assert "there is no registry named 'mine'" in await refusal(images, remote.ref, "mine")
    add(registries, "mine", remote, "me:wrong")
    assert "'mine' does not let me have it" in await refusal(images, remote.ref, "mine")
    add(registries, "mine", remote)
    assert "registry add NAME" in await refusal(images, remote.ref), "a login that nobody named was used"
    assert await images.ensure(remote.ref, registries=["mine"])
    await forget(engine, remote.ref)


async def test_a_login_is_told_to_no_other_server(
    engine: Engine, images: Images, registries: Registries, remote: Registry
) -> None:
    with registry(login="you:other", salt=f"{engine.instance}-other") as other:
        add(registries, "mine", remote)
        assert f"'mine' is at 127.0.0.1:{remote.server_port}" in await refusal(images, other.ref, "mine")
        assert other.told
        mine = base64.b64encode(LOGIN.encode()).decode()
        assert not any(mine in told for told in other.told)
