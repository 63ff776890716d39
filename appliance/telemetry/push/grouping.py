"""The grouping key of a push, which stands in its path. Pure.

https://github.com/prometheus/pushgateway#url: `/metrics/job/JOB{/LABEL/VALUE}`; `LABEL@base64` has its value, which may
hold a slash or nothing, in URL-safe base64.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from appliance.errors import UsageError
from appliance.telemetry.metrics.numbering import MOST_LABELS, MOST_TEXT
from appliance.telemetry.push.exposition import is_label

PREFIX = "/metrics/"
BASE64 = "@base64"
JOB = "job"


def grouping_key(raw_path: str) -> dict[str, str]:
    """Labels of a path as it was sent, percent signs and all; `job` is among them. A plus sign is a plus sign.

    Raises UsageError where it is no path of a push.
    """
    parts = raw_path.removeprefix(PREFIX).removesuffix("/").split("/")
    if not raw_path.startswith(PREFIX) or parts[0].removesuffix(BASE64) != JOB:
        raise _wrong("the path begins with another word than /metrics/job")
    if len(parts) % 2:
        raise _wrong("the path ends with a label that has no value")
    found: dict[str, str] = {}
    for written, value in zip(parts[::2], parts[1::2], strict=True):
        name = _decoded(written)
        name, encoded = name.removesuffix(BASE64), name.endswith(BASE64)
        if not is_label(name):
            raise _wrong(f"{name[:80]!r} cannot be the name of a label")
        text = _decoded(value)
        found[name] = _from_base64(text) if encoded else text
        if len(found[name]) > MOST_TEXT:
            raise _wrong(f"the value of label {name} is longer than {MOST_TEXT} characters")
    if not found.get(JOB):
        raise _wrong("the name of the job is empty")
    if len(found) > MOST_LABELS:
        raise _wrong(f"there are more than {MOST_LABELS} labels")
    return found


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise _wrong("the path is no UTF-8") from None


def _from_base64(text: str) -> str:
    """With its padding or without."""
    bare = text.rstrip("=")
    try:
        raw = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
        return raw.decode()
    except (binascii.Error, ValueError):
        raise _wrong(f"{text[:80]!r} is no text in URL-safe base64") from None


def _wrong(message: str) -> UsageError:
    return UsageError(message, where="the path of a push", hint="push to /metrics/job/NAME, as to a Pushgateway")
