"""Looking into an image that does not want it."""

from __future__ import annotations

import time

import pytest

from appliance.engine.docker import Engine
from appliance.engine.labels import Owner
from appliance.errors import EngineError, ImageNotFound

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.images]


def labels(engine: Engine) -> dict[str, str]:
    return Owner(instance=engine.instance, kind="kit", name="kit", uid="kit").to_labels()


async def ask(engine: Engine, image: str, script: str, timeout_s: float = 120) -> tuple[int, str]:
    return await engine.ask(image, ["sh", "-c", script], labels=labels(engine), timeout_s=timeout_s)


async def test_it_reaches_nothing_and_changes_nothing(engine: Engine, base_image: str) -> None:
    script = "ls /sys/class/net; touch /x 2>/dev/null || echo cannot write; grep CapEff /proc/self/status; exit 3"
    code, said = await ask(engine, base_image, script)
    assert code == 3
    assert said.split("\n")[0] == "lo"
    assert "cannot write" in said
    assert "CapEff:\t0000000000000000" in said
    assert await engine.list() == []


async def test_what_it_says_is_bounded(engine: Engine, base_image: str) -> None:
    code, said = await ask(engine, base_image, "head -c 30000000 /dev/zero | tr '\\0' a; echo; echo the end")
    assert code == 0
    assert said.endswith("the end\n")
    assert len(said) <= 64 * 1024


async def test_one_that_does_not_end_is_ended(engine: Engine, base_image: str) -> None:
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"did not end within 0\.5 s"):
        await ask(engine, base_image, "trap '' TERM; yes", timeout_s=0.5)
    assert time.monotonic() - began < 60
    assert await engine.list() == []


async def test_a_command_that_is_not_there(engine: Engine, base_image: str) -> None:
    code, _ = await engine.ask(base_image, ["no-such-thing"], labels=labels(engine), timeout_s=120)
    assert code == 127
    with pytest.raises(ImageNotFound):
        await engine.ask("sha256:" + "0" * 64, ["sh"], labels=labels(engine), timeout_s=120)


async def test_an_export_that_is_refused_leaves_nothing(engine: Engine, base_image: str) -> None:
    pieces: list[int] = []

    def write(piece: bytes) -> None:
        pieces.append(len(piece))
        if len(pieces) == 3:
            raise BrokenPipeError("enough")

    with pytest.raises(BrokenPipeError, match="enough"):
        await engine.export(base_image, write, labels=labels(engine))
    assert len(pieces) == 3
    assert await engine.list() == []
