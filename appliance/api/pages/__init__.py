"""The pages that the daemon itself shows in a browser: files beside this one, written by hand, with no build step.

All that a page runs and loads is one of these files, so its policy lets nothing else in; what it tells of a notebook it
asks the API for. The address of each file holds a digest of them all: a browser keeps them for ever, and after an
upgrade asks for others.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
_HERE = Path(__file__).parent

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",  # images of a notebook's outputs, which the page has fetched with its token
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",  # JupyterLab's side panel, behind the same front door
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",  # text is never markup: a browser that knows these refuses innerHTML altogether
    )
)
SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    media_type: str


def read() -> tuple[str, dict[str, File]]:
    """The digest, and every file by name. `DIGEST` in the HTML stands for it."""
    found = {path.name: path.read_bytes() for path in sorted(_HERE.iterdir()) if path.suffix in _KINDS}
    digest = hashlib.sha256(b"\0".join(name.encode() + b"\0" + text for name, text in found.items())).hexdigest()[:16]
    return digest, {
        name: File(
            text.replace(b"DIGEST", digest.encode()) if name.endswith(".html") else text, _KINDS[Path(name).suffix]
        )
        for name, text in found.items()
    }
