"""An NVML of our own: a library in C (`stub.c`), and what it is told to answer (`stub.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.nvml.stub import Stub, build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without what newer drivers have added."""
    return build(tmp_path_factory.mktemp("old-nvml"), "-DOLD")


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path) -> Stub:
    return Stub(tmp_path, nvml_library)


@pytest.fixture
def old_nvml(old_nvml_library: Path, tmp_path: Path) -> Stub:
    return Stub(tmp_path, old_nvml_library)
