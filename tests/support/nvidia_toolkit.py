"""A stand-in for NVIDIA's toolkit on a machine without a GPU: its hook, its runtime and its CDI files.

A card is the device of fuse by another name: whoever may open it gets a descriptor and nothing happens.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

NODE = Path("/dev/fuse")
"""Stands for every card. No container may open it unless it was given one."""
CARDS: Mapping[str, str] = {
    "GPU-aaaaaaaa-0000-0000-0000-000000000000": "nvidia0",
    "GPU-bbbbbbbb-0000-0000-0000-000000000000": "nvidia1",
    "MIG-cccccccc-0000-0000-0000-000000000000": "nvidia-cap21",
}
"""UUID -> name in `/dev` of the container that has it."""
GREEDY = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "all", "CUDA_VISIBLE_DEVICES": "7"}
"""Of the image, as those of GPU frameworks."""

_HOOK = r"""#!{python} -I
# As nvidia-container-runtime-hook: the cards that the environment of the container names, no others.
import json, os, subprocess, sys
cards = json.loads({cards!r})
state = json.load(sys.stdin)
config = json.load(open(os.path.join(state["bundle"], "config.json")))
env = dict(one.split("=", 1) for one in config["process"]["env"] if "=" in one)
asked = env.get("NVIDIA_VISIBLE_DEVICES", "")
if asked in ("", "void", "none"):
    sys.exit(0)
wanted = list(cards) if asked == "all" else asked.split(",")
root = config["root"]["path"]
group = next(line.split(":", 2)[2].strip() for line in open(f"/proc/{{state['pid']}}/cgroup") if ":devices:" in line)
for uuid in wanted:
    if uuid not in cards:
        sys.exit(f"nvidia-container-cli: device error: {{uuid}}: unknown device")
    node = os.path.join(root, "dev", cards[uuid])
    inside = ["nsenter", "-t", str(state["pid"]), "-m"]
    subprocess.run([*inside, "mknod", "-m", "666", node, "c", *{numbers!r}], check=True)
    rule = "c " + ":".join({numbers!r}) + " rw"
    with open(f"/sys/fs/cgroup/devices{{group}}/devices.allow", "w") as rules:
        rules.write(rule)
"""
_RUNTIME = r"""#!{python} -I
# As nvidia-container-runtime: every container has the hook, unless the engine has put it there already.
import json, os, sys
if "create" in sys.argv and "--bundle" in sys.argv:
    path = os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "config.json")
    config = json.load(open(path))
    hooks = config.setdefault("hooks", {{}}).setdefault("prestart", [])
    if not any("nvidia-container-runtime-hook" in hook["path"] for hook in hooks):
        hooks.append({{"path": {hook!r}, "args": ["nvidia-container-runtime-hook", "prestart"]}})
        json.dump(config, open(path, "w"))
os.execvp("runc", ["runc", *sys.argv[1:]])
"""


def lay(folder: Path, *, cdi: bool) -> dict[str, object]:
    """Programs into `folder/bin`, CDI files into `folder/cdi`; what of an engine's configuration tells of them."""
    programs = folder / "bin"
    programs.mkdir()
    hook, runtime = programs / "nvidia-container-runtime-hook", programs / "nvidia-container-runtime"
    python, numbers = sys.executable, list(_numbers())
    hook.write_text(_HOOK.format(python=python, cards=json.dumps(dict(CARDS)), numbers=numbers))
    runtime.write_text(_RUNTIME.format(python=python, hook=str(hook)))
    for program in (hook, runtime):
        program.chmod(0o755)
    config: dict[str, object] = {"runtimes": {"nvidia": {"path": str(runtime)}}, "default-runtime": "nvidia"}
    if cdi:
        write_cdi(folder, *CARDS)
        config["cdi-spec-dirs"] = [str(folder / "cdi")]
    return config


def write_cdi(folder: Path, *names: str) -> None:
    """Let CDI name these and no others, as after `nvidia-ctk cdi generate`; numbers are places of now."""
    where = folder / "cdi"
    where.mkdir(exist_ok=True)
    devices = [
        {
            "name": name,
            "containerEdits": {
                "deviceNodes": [{"path": f"/dev/{CARDS.get(name, 'nvidia' + name)}", "hostPath": str(NODE)}]
            },
        }
        for name in names
    ]
    # the toolkit's own files say NVIDIA_VISIBLE_DEVICES=void too; nothing here may rest on that
    document = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices}
    half = where / ".half"  # the engine watches the folder
    half.write_text(json.dumps(document))
    half.rename(where / "nvidia.json")


def take_rules(container: str, pid: int) -> None:
    """What `systemctl daemon-reload` does to a container with GPUs: the rule of NVIDIA's hook is gone."""
    group = next(
        line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if ":devices:" in line
    )
    assert container in group
    numbers = ":".join(_numbers())
    Path(f"/sys/fs/cgroup/devices{group}/devices.deny").write_text(f"c {numbers} rwm")


def has_rules() -> bool:
    """Device rules are files here, which the hook's stand-in writes: control groups of version 1."""
    own = Path("/proc/self/cgroup").read_text()
    return ":devices:" in own and Path("/sys/fs/cgroup/devices/devices.allow").exists()


def _numbers() -> tuple[str, str]:
    device = NODE.stat().st_rdev
    return str(os.major(device)), str(os.minor(device))
