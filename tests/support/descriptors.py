"""What this process has open: for tests that ask that nothing stays open.

Counting all descriptors would not do: those of other tests are closed whenever garbage is collected.
"""

import contextlib
import os
from pathlib import Path


def open_below(folder: Path) -> list[str]:
    """Paths of what this process holds open in a folder and below it; what was removed there is told too."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if path == str(folder) or path.startswith(f"{folder}/"):
                found.append(path)
    return found
