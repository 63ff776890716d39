"""A container gets the cards of its lease and no others, on real engines: through NVIDIA's hook and through CDI.

The machine's runtime is the greedy kind: it starts every container as NVIDIA's, and the image asks for every card.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import docker
import pytest

from appliance.engine.devices import Devices, hook_found
from appliance.engine.docker import Engine
from appliance.engine.labels import GPUS, Owner
from appliance.engine.types import Container, ContainerSpec, Mount
from appliance.errors import GpuRefused
from tests.support.docker import clear
from tests.support.engines import IMAGE, PrivateEngine, private_engine
from tests.support.nvidia_toolkit import CARDS, GREEDY, NODE, take_rules, write_cdi

pytestmark = pytest.mark.anyio

CARD, OTHER, MIG = CARDS
GONE = "GPU-dddddddd-0000-0000-0000-000000000000"


@pytest.fixture(scope="module", params=[False, True], ids=["hook", "cdi"])
def private(request: pytest.FixtureRequest) -> Iterator[PrivateEngine]:
    with private_engine(cdi=request.param) as found:
        yield found


@pytest.fixture
async def engine(anyio_backend: str, private: PrivateEngine) -> AsyncIterator[Engine]:
    engine = Engine(instance=secrets.token_hex(4), docker_host=private.host)
    try:
        yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await clear(engine)
            await engine.close()
            if private.cdi:
                write_cdi(private.folder, *CARDS)


def spec(engine: Engine, *gpus: str, name: str = "a") -> ContainerSpec:
    labels = Owner(engine.instance, "notebook", name, name).to_labels()
    full = f"appliance-{engine.instance}-{name}"
    return ContainerSpec(name=full, image=IMAGE, labels=labels, command=["sleep", "600"], gpus=gpus)


async def started(engine: Engine, wanted: ContainerSpec) -> Container:
    made = await engine.create(wanted)
    await engine.start(made.id)
    found = await engine.inspect(made.id)
    assert found is not None
    assert found.state == "running"
    return found


async def nodes(engine: Engine, container: Container) -> set[str]:
    """The cards that are in it."""
    code, output = await engine.exec(container.id, ["ls", "/dev"])
    assert code == 0
    return {name for name in output.decode().split() if name.startswith("nvidia")}


async def opens(engine: Engine, container: Container, node: str) -> bool:
    code, _ = await engine.exec(container.id, ["sh", "-c", f": <> /dev/{node}"])
    return code == 0


async def variables(engine: Engine, container: Container) -> dict[str, str]:
    _, output = await engine.exec(container.id, ["env"])
    return dict(line.partition("=")[::2] for line in output.decode().splitlines())


async def named(engine: Engine, *devices: str) -> None:
    """Until CDI names these: the engine reads its files when they change."""
    wanted = {f"nvidia.com/gpu={device}" for device in devices}
    async with asyncio.timeout(60):
        while (await engine.look()).cdi_devices != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_this_machine_gives_every_card_to_who_does_not_say_otherwise(private: PrivateEngine) -> None:
    """What the tests below would see if nothing was done."""

    def listing() -> bytes:
        api = docker.APIClient(base_url=private.host, version="auto")
        document = {"Image": IMAGE, "Cmd": ["ls", "/dev"], "HostConfig": {"NetworkMode": "none"}}
        made = api.create_container_from_config(document)["Id"]  # type: ignore[no-untyped-call]
        try:
            api.start(made)
            api.wait(made)
            said: bytes = api.logs(made)
            return said
        finally:
            api.remove_container(made, force=True)
            api.close()

    assert set(CARDS.values()) <= set((await asyncio.to_thread(listing)).decode().split())


async def test_without_a_lease_there_is_no_card(engine: Engine) -> None:
    for number, env in enumerate(({}, GREEDY)):
        found = await started(engine, replace(spec(engine, name=f"none-{number}"), env=env))
        assert await nodes(engine, found) == set()
        assert (await variables(engine, found))["NVIDIA_VISIBLE_DEVICES"] == "void"
        assert GPUS not in found.labels


@pytest.mark.parametrize("cards", [(CARD,), (OTHER,), (MIG,), (OTHER, CARD)])
async def test_a_lease_is_exactly_its_cards(engine: Engine, cards: tuple[str, ...]) -> None:
    """Whatever the image and the user say."""
    found = await started(engine, replace(spec(engine, *cards), env=GREEDY))
    assert await nodes(engine, found) == {CARDS[card] for card in cards}
    for card in cards:
        assert await opens(engine, found, CARDS[card])
    assert found.labels[GPUS] == ",".join(cards)


async def test_by_the_hook_or_by_cdi(engine: Engine, private: PrivateEngine) -> None:
    found = await started(engine, replace(spec(engine, OTHER, CARD), env=GREEDY))
    seen = await variables(engine, found)
    assert "CUDA_VISIBLE_DEVICES" not in seen
    assert seen["NVIDIA_VISIBLE_DEVICES"] == ("void" if private.cdi else f"{OTHER},{CARD}")
    if not private.cdi:
        assert seen["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    known = await engine.connect()
    assert known.gpu_runtime
    assert await asyncio.to_thread(hook_found, private.host)  # which is on the engine's path, not on ours
    assert not await asyncio.to_thread(hook_found, "")
    assert known.cdi_devices == ({f"nvidia.com/gpu={card}" for card in CARDS} if private.cdi else set())


async def test_a_card_that_is_gone_is_refused_at_the_start_as_the_machines_fault(
    engine: Engine, private: PrivateEngine
) -> None:
    made = await engine.create(spec(engine, GONE))
    with pytest.raises(GpuRefused) as caught:
        await engine.start(made.id)
    assert GONE in caught.value.message
    assert caught.value.hint


async def test_an_engine_without_the_toolkit_says_what_is_missing(docker_engine: str, base_image: str) -> None:
    """The machine's own, which may have it: then it does not know that card."""
    plain = Engine(instance=secrets.token_hex(4))
    try:
        made = await plain.create(replace(spec(plain, GONE), image=base_image))
        with pytest.raises(GpuRefused) as caught:
            await plain.start(made.id)
        assert caught.value.hint
    finally:
        await clear(plain)
        await plain.close()


async def test_a_card_that_cdi_has_lost_since_it_was_asked_is_the_machines_fault_too(
    engine: Engine, private: PrivateEngine
) -> None:
    if not private.cdi:
        pytest.skip("of CDI only")
    made = await engine.create(spec(engine, OTHER))
    write_cdi(private.folder, CARD)
    await named(engine, CARD)
    with pytest.raises(GpuRefused, match="unresolvable CDI devices") as caught:
        await engine.start(made.id)
    assert "nvidia-ctk cdi generate" in caught.value.hint


async def test_numbers_in_cdi_are_not_believed(engine: Engine, private: PrivateEngine) -> None:
    """They are the order of cards when the file was written: the hook is asked, which knows UUIDs."""
    if not private.cdi:
        pytest.skip("of CDI only")
    write_cdi(private.folder, "0", "1", "all")
    await named(engine, "0", "1", "all")
    found = await started(engine, spec(engine, OTHER))
    assert await nodes(engine, found) == {CARDS[OTHER]}
    assert (await variables(engine, found))["NVIDIA_VISIBLE_DEVICES"] == OTHER


async def test_a_container_that_was_never_started_gets_the_cards_of_the_lease_of_now(engine: Engine) -> None:
    first = await engine.create(spec(engine, CARD))
    again = await engine.create(spec(engine, CARD))
    assert again.id == first.id
    found = await started(engine, spec(engine, OTHER))
    assert found.id != first.id
    assert await nodes(engine, found) == {CARDS[OTHER]}


async def test_a_lost_card_is_seen_from_outside(engine: Engine) -> None:
    looking = Devices()
    found = await started(engine, spec(engine, CARD))
    bare = await started(engine, spec(engine, name="bare"))
    assert found.pid
    assert bare.pid
    assert (await looking.look(found.pid, found.id, [NODE])).state == "ok"
    # a container that was never given it is not to open it; and numbers are checked against the id
    assert (await looking.look(bare.pid, bare.id, [NODE])).state == "lost"
    assert (await looking.look(bare.pid, found.id, [NODE])).state == "unknown"

    await asyncio.to_thread(take_rules, found.id, found.pid)
    assert not await opens(engine, found, CARDS[CARD])
    lost = await looking.look(found.pid, found.id, [NODE])
    assert lost.state == "lost"
    assert str(NODE) in lost.words

    await engine.remove(found.id)
    healed = await started(engine, spec(engine, CARD))
    assert healed.pid
    assert (await looking.look(healed.pid, healed.id, [NODE])).state == "ok"
    assert (await looking.look(found.pid, found.id, [NODE])).state == "unknown"


async def test_the_libraries_of_a_driver_that_was_replaced_are_seen(engine: Engine, tmp_path: Path) -> None:
    """NVIDIA's toolkit mounts those of the driver into the container, version and all."""
    (tmp_path / "library").touch()
    library = Mount(tmp_path / "library", "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15", read_only=True)
    found = await started(engine, replace(spec(engine, CARD), mounts=[library]))
    assert found.pid
    looking = Devices()
    assert (await looking.look(found.pid, found.id, [NODE], driver="550.54.15")).state == "ok"
    lost = await looking.look(found.pid, found.id, [NODE], driver="560.35.03")
    assert lost.state == "lost"
    assert "550.54.15" in lost.words
