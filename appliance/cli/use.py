"""Whether a notebook's session is used, and when it is stopped otherwise, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.cli import render


def line(idle: Mapping[str, Any] | None, now: float | None = None) -> str:
    """Of `status.idle`; empty where nothing stops it by itself. What it says comes from inside: it is cleaned."""
    if not idle:
        return ""
    since, ends = idle.get("since"), idle.get("ends")
    used = f"unused since {render.clock(since)}" if since else render.clean(str(idle.get("why") or "")) or "in use"
    return f"{used}; stopped {render.ahead(ends, now)} ({render.clock(ends)})" if ends else used
