"""Stands in for the first-order motion model: says what it was given and writes a result that depends on all of it."""

import argparse
import hashlib
from pathlib import Path

parser = argparse.ArgumentParser()
for flag in ("relative", "adapt_scale"):
    parser.add_argument(f"--{flag}", action="store_true")
for name in ("config", "checkpoint", "driving_video", "source_image", "result_video"):
    parser.add_argument(f"--{name}", type=Path, required=True)
given = parser.parse_args()
digest = hashlib.sha256()
for path in (given.config, given.checkpoint, given.driving_video, given.source_image):
    digest.update(path.read_bytes())
given.result_video.write_text(digest.hexdigest())
print("wrote", given.result_video)
