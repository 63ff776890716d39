"""A time that lies back, as an option has it."""

from __future__ import annotations

import re
import time

from appliance.errors import UsageError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def since(text: str, option: str = "--since") -> float:
    """Unix seconds; of an empty text 0. Raises UsageError."""
    if not text:
        return 0.0
    if relative := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        return max(0.0, time.time() - int(relative[1]) * _UNITS_S[relative[2]])
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        return float(text)
    raise UsageError(f"{option} takes 10m, 2h, 1d or unix seconds, not {text!r}")
