"""What only the OpenZFS kernel module shows. `./install.sh test --openzfs` runs it, in a virtual machine if need be.

That machine is slow, so one store serves all tests; each of them leaves it empty.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.storage.zfs.store import ZfsStore
from tests.support.zfs import call, destroy_dataset


@pytest.fixture(scope="session")
def kept_store(zfs_pool: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZfsStore]:
    if not Path("/sys/module/zfs").exists():
        pytest.skip("this kernel runs no OpenZFS: `./install.sh test --openzfs` boots one that does")
    dataset = f"{zfs_pool}/t{secrets.token_hex(4)}"
    assert call("zfs", "create", "-o", "canmount=off", dataset).returncode == 0
    yield ZfsStore(dataset, tmp_path_factory.mktemp("openzfs") / "volumes")
    destroy_dataset(dataset)


@pytest.fixture
def store(kept_store: ZfsStore) -> Iterator[ZfsStore]:
    yield kept_store
    for volume in kept_store.volumes():
        kept_store.destroy(volume)
    assert kept_store.volumes() == []
