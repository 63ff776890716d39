"""Images that a revision needs keep a name of ours on the real engine, and lose it when nobody goes back to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import docker
import docker.errors
import pytest

from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.kept import KEPT
from appliance.engine.types import ContainerSpec
from tests.support.docker import BASE_IMAGE

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.images]


@pytest.fixture
def images(engine: Engine, tmp_path: Path) -> Images:
    return Images(engine, base_image=BASE_IMAGE, work_dir=tmp_path / "work")


async def make(engine: Engine, base_image: str, ref: str) -> str:
    """A new image by this name, and its id."""
    made = await engine.create(ContainerSpec(name=f"made-{engine.instance}-{ref[-1]}", image=base_image, labels={}))

    def work(api: docker.APIClient) -> str:
        repository, _, tag = ref.rpartition(":")
        return str(api.commit(made.id, repository, tag, message=ref)["Id"])

    found = await engine.client.call(work)
    await engine.remove(made.id)
    return found


@pytest.fixture
async def ref(engine: Engine) -> AsyncIterator[str]:
    """A name that two images have in turn; all that is left of it goes."""
    name = f"appliance-test-{engine.instance}/app"
    yield name

    def work(api: docker.APIClient) -> None:
        for image in api.images(all=False):
            for tag in image.get("RepoTags") or ():
                if tag.startswith((f"{name}:", f"{KEPT}:{engine.instance}")):
                    api.remove_image(tag, force=True)

    await engine.client.call(work)


async def test_an_image_whose_name_moves_on_is_kept_until_it_is_let_go(
    engine: Engine, images: Images, base_image: str, ref: str
) -> None:
    mine, name = "uid-", f"{KEPT}:{engine.instance}-uid-"
    first = await make(engine, base_image, f"{ref}:1")
    await images.keep(first, f"{mine}1")
    second = await make(engine, base_image, f"{ref}:1")
    await images.keep(second, f"{mine}2")
    assert first != second
    assert (await images.identity(first), await images.identity(f"{name}1")) == (first, first)
    await images.let_go(mine, {f"{mine}1", f"{mine}2"})
    assert await images.identity(first) == first
    await images.let_go(mine, {f"{mine}2"})
    assert await images.identity(first) == "", "its own name leads to another image: nobody can ask for it"
    await images.let_go(mine, set())
    assert await images.identity(f"{name}2") == ""
    assert await images.identity(f"{ref}:1") == second, "it still has its own name"


async def test_what_a_container_is_made_of_stays(engine: Engine, images: Images, base_image: str, ref: str) -> None:
    mine = "uid-"
    first = await make(engine, base_image, f"{ref}:1")
    await images.keep(first, f"{mine}1")
    await make(engine, base_image, f"{ref}:1")
    made = await engine.create(ContainerSpec(name=f"user-{engine.instance}", image=first, labels={}))
    try:
        await images.let_go(mine, set())
        assert await images.identity(first) == first
    finally:
        await engine.remove(made.id)
    await images.let_go(mine, set())
    assert await images.identity(first) == ""


async def test_an_image_without_a_name_is_left_to_whoever_made_it(
    engine: Engine, images: Images, base_image: str, ref: str
) -> None:
    first = await make(engine, base_image, f"{ref}:1")
    await make(engine, base_image, f"{ref}:1")  # takes the name over
    await images.keep(first, "uid-1")
    assert await images.identity(f"{KEPT}:{engine.instance}-uid-1") == ""
    await images.keep("sha256:" + "0" * 64, "uid-2")
    await engine.client.call(lambda api: api.remove_image(first))
