"""The dataset rooms on a plain-directory store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.state.db import Database
from appliance.storage.directory.store import DirectoryStore
from tests.conftest import Clock


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "volumes", "for tests", durable=False)


@pytest.fixture
def datasets(db: Database, store: DirectoryStore, clock: Clock) -> Datasets:
    return Datasets(db, store, clock)


@pytest.fixture
def models(db: Database, store: DirectoryStore, clock: Clock) -> Models:
    return Models(db, store, clock)
