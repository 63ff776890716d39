"""The list of GPUs: several of one name, bars of one length, dashes for what nobody tells."""

from __future__ import annotations

from typing import Any, cast

import pytest

from appliance.client import Client
from tests.unit.cli.test_gpu import a_gpu, card, holder
from tests.unit.tui.fakes import SIZE, FakeClient, on, text_of
from tui.app import ApplianceApp
from tui.feed import Feed
from tui.kinds import BAR, BY_NAME, bar

pytestmark = pytest.mark.anyio


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    return BY_NAME["gpus"].cells(row, 0.0)


def test_a_card_with_its_holder() -> None:
    told = a_gpu(
        utilisation=50, memory=80 * 2**30, used=2**29, power_w=251.4, limit_w=400.0, temperature=71,
        cards=[card(holders=[holder(used=49.6), holder("b\x1b[2J")])],
    )  # fmt: skip
    index, name, busy, *rest = cells(told)
    assert (index, name, busy) == ("0", "NVIDIA A100", "█████░░░░░  50%")
    assert rest[:4] == ["0.5 GiB of 80.0 GiB", "251 W of 400", "71 C", "held"]
    assert rest[4].startswith("notebook/lab 50%, notebook/b")
    assert "\x1b" not in rest[4]


def test_what_nobody_tells_is_a_dash() -> None:
    assert cells(a_gpu())[2:] == ("-", "- of -", "-", "-", "free", "")
    assert cells(a_gpu(split=True, cards=[card("MIG-1", holders=[holder()])]))[6:] == ("split", "notebook/lab")
    assert cells(a_gpu(split=True, lost="gone", cards=[]))[6] == "lost: gone"
    drained = card(state="drained", why="Xid 79\nsecond line")
    assert cells(a_gpu(cards=[drained]))[6] == "drained: Xid 79"


@pytest.mark.parametrize("percent", [-5, 0, 1, 9, 10, 55, 99, 100, 250])
def test_every_bar_has_the_same_length(percent: int) -> None:
    shown = bar(percent)
    assert len(shown.split(" ")[0]) == BAR
    assert ("█" in shown) == (percent >= 10)
    assert ("░" in shown) == (percent < 100)


async def test_cards_of_one_name_stand_beside_each_other() -> None:
    client = FakeClient()
    app = ApplianceApp(Feed(lambda: cast(Client, client)))
    client.rows["gpus"] = [a_gpu(), a_gpu("GPU-2", index=1, lost="fell off the bus", cards=[])]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "gpus")
        assert app.listing is not None
        assert app.listing.table.row_count == 2
        assert "NVIDIA A100" in text_of(app)
