"""What the repositories hold that the corpus files clone: programs that do little, and show what they were given."""

from __future__ import annotations

MNIST = """
import os
from pathlib import Path

target = Path(os.environ["PS_MODEL_PATH"])
target.mkdir(parents=True)
(target / "saved_model.pb").write_text(f"trained for {os.environ.get('train_epochs', 1)} epochs")
print("cwd", Path.cwd(), "holds", sorted(path.name for path in Path.cwd().iterdir()))
"""
"""Trains into `$PS_MODEL_PATH` and tells where it was started."""

TRAIN_CLMBOT = """
import sys
from pathlib import Path

data = Path("/inputs/data")
words = sum(len(path.read_text().split()) for path in data.iterdir())
config = Path(sys.argv[sys.argv.index("-c") + 1]).read_text().strip()
Path("/outputs/models/model.txt").write_text(f"{config}, {words} words")
try:
    (data / "new").write_text("x")
except OSError as error:
    print("data:", error.strerror)
"""
"""Trains on /inputs/data with the configuration behind `-c`, then tries to write into its data."""

GENERATE = """
import sys
from pathlib import Path

options = dict(text.lstrip("-").split("=", 1) for text in sys.argv[2:])
first, last = map(int, options["seeds"].split("-"))
for seed in range(first, last + 1):
    Path(options["result-dir"], f"seed{seed}.png").write_text(options["truncation-psi"])
"""
"""run_generator.py: one picture per seed."""

TRAIN_FASHION = """
import os
from pathlib import Path

target = Path(os.environ["MODEL_DIR"])
target.mkdir(parents=True)
(target / "saved_model.pb").write_text(f"epochs={os.environ['EPOCHS']} key={len(os.environ['apiKey'])}")
print("the key is", os.environ["apiKey"])
"""
"""Trains into `$MODEL_DIR`, and prints the key that it was given."""

INFER = """
import json
import os
import urllib.request

body = json.dumps({"instances": [[1], [2], [3]]}).encode()
with urllib.request.urlopen(os.environ["SERVE_URL"], body) as answer:
    print(len(json.load(answer)["predictions"]), "predictions")
"""
"""Asks `$SERVE_URL` for three predictions."""

STYLEGAN = {
    "run_generator.py": """
import sys
from pathlib import Path

options = dict(text.lstrip("-").split("=", 1) for text in sys.argv[2:])
network = Path(options["network"]).read_text()
for seed in (6600, 6605):
    Path(options["result-dir"], f"seed{seed}.png").write_text(f"{seed} of {network}")
""",
    "run_metrics.py": """
import sys
from pathlib import Path

options = dict(text.lstrip("-").split("=", 1) for text in sys.argv[1:])
images = len(list(Path(options["data-dir"], options["dataset"]).iterdir()))
network = Path(options["network"]).read_text()
Path(options["result-dir"], "metrics.txt").write_text(f"{options['metrics']} of {network} on {images} images")
""",
    "run_training.py": """
import sys
from pathlib import Path

options = dict(text.lstrip("-").split("=", 1) for text in sys.argv[1:])
target = Path(options["result-dir"], "00000-stylegan2-cat-1gpu-config-f")
target.mkdir()
(target / "network-final.pkl").write_text("our network")
""",
    "dataset_tool.py": """
import sys
from pathlib import Path

target, source = Path(sys.argv[2]), Path(sys.argv[3])
target.mkdir()
for resolution in range(2, 9):
    (target / f"cat_images_tfrecords-r0{resolution}.tfrecords").write_text(
        f"{resolution}: {sorted(path.name for path in source.iterdir())}"
    )
""",
}
"""File -> program of the StyleGAN2 repository; what each writes depends on all that it reads."""

PREDICT = """
import os
from pathlib import Path

Path("predictions/live.csv").write_text("id,prediction")
print("as", os.environ["PUBLIC_ID"], os.environ["SECRET_KEY"], len(os.environ["SECRET_KEY"]))
"""
"""Predicts, and prints its keys."""

CROSSVAL = """
import json
from pathlib import Path

print("layers", json.loads(Path("data/params.json").read_text())["layers"])
Path("logs").mkdir()
raise SystemExit(3)
"""
"""awe.training.crossval: reads its parameters, leaves logs, fails."""

SWEEP_MASTER = """
from pathlib import Path

for number in (1, 2, 3):
    Path(f"configs/config{number}.json").write_text(f'{{"lr": 0.{number}}}')
"""
"""Writes a configuration for each of three jobs."""

SWEEP = """
import json
import sys
from pathlib import Path

assert not Path("configs").exists(), "what another job writes into its copy of the volume is not seen"
Path("scratch").write_text(sys.argv[2])
print(sys.argv[2], json.loads(Path(f"/inputs/configs/{sys.argv[2]}.json").read_text())["lr"])
"""
"""One of the three: it must not see what the master wrote into its copy of the volume."""

MEET = """#!/bin/bash
touch /storage/fairface-SIZE
for _ in $(seq 600); do
  [ -e /storage/fairface-3 ] && [ -e /storage/fairface-5 ] && break
  sleep 0.1
done || exit 1
mkdir -p outputs/training-output-dataset
echo $KERNEL SIZE met $(ls /storage/ | grep -c fairface-) > outputs/training-output-dataset/r
"""
"""run_train_8_SIZE.sh: begins to train when its sibling of the other SIZE runs too."""

TRACKER = """
import sys
from pathlib import Path

given, made = (Path(sys.argv[sys.argv.index(name) + 1]) for name in ("--input", "--output"))
made.write_bytes(given.read_bytes())
print(made.stat().st_size, "bytes")
"""
"""Copies a film."""
