"""Fixtures of several files here."""

from __future__ import annotations

from tests.integration.polling import bench, server

__all__ = ["bench", "server"]
