"""The sentences that every store keeps, on OpenZFS."""

from __future__ import annotations

import pytest

from tests.unit.storage.contract import StoreContract


@pytest.mark.zfs
class TestOpenZfs(StoreContract):
    pass
