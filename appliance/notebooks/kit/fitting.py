"""What a container of an image gets so that Jupyter is in it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.engine.labels import PREFIX
from appliance.engine.types import Mount
from appliance.notebooks import jupyter
from appliance.notebooks.kit.found import Found

ROOT = "/opt/appliance/jupyter"
PACKAGES = "/opt/appliance/packages"
"""Also in inside/launch.py."""
SHARE = "/opt/appliance/share"
LABEL = PREFIX + "kit"
"""The folders of the kit that a container is made with, so that none of them is removed below it."""
KERNEL = "APPLIANCE_KERNEL"
"""Variable that tells run_notebook.py that the kernel's packages are not the ones that it sees itself."""
LAUNCH = "launch.py"
INSIDE = Path(__file__).with_name("inside")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in the root things lie, as paths below it."""

    loader: str
    """The dynamic loader, such as `usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2`."""
    python: str
    libraries: Sequence[str]
    """Folders of shared libraries."""

    def command(self) -> list[str]:
        """The root's Python in a container. Neither the libraries of the image nor its variables reach it."""
        python = f"{ROOT}/{self.python}"
        libraries = ":".join(f"{ROOT}/{folder}" for folder in self.libraries)
        return [f"{ROOT}/{self.loader}", "--argv0", python, "--library-path", libraries, python]


@dataclass(frozen=True, slots=True)
class Fit:
    mounts: Sequence[Mount]
    env: Mapping[str, str]
    python: Sequence[str]
    """The command that runs a program with Jupyter's packages, nbclient among them: the program's path follows."""
    labels: Mapping[str, str]
    words: str
    """What brings Jupyter in and what runs the cells."""
    degraded: bool
    """Not all is as in an image with Jupyter."""

    def command(self, name: str) -> list[str]:
        """JupyterLab for notebook `name`."""
        _, _, *flags = jupyter.command(name)
        return [*self.python, "-m", "jupyterlab", *flags]


def fit(found: Found, layout: Layout, *, root: Path, packages: Path | None, share: Path) -> Fit:
    """`packages` is None where the kernel needs none of ours."""
    folders = {ROOT: root, SHARE: share, **({PACKAGES: packages} if packages else {})}
    if found.lacks:
        words = f"{found.lacks}: its cells run in the appliance's own Python, which sees no package of the image"
    else:
        words = f"its cells run in the image's Python {found.shown_version} ({found.python})"
    return Fit(
        mounts=[Mount(source, target, read_only=True) for target, source in folders.items()],
        env=environment(found),
        # -I: no variable, no folder of the user's and no package of theirs decides what the server imports
        python=[*layout.command(), "-I"],
        labels={LABEL: ",".join(sorted(path.name for path in folders.values()))},
        words=f"the image has no JupyterLab, so the appliance's own serves it; {words}",
        degraded=bool(found.lacks),
    )


def environment(found: Found) -> dict[str, str]:
    own = [f"{found.prefix}/share/jupyter"] if found.prefix else []
    return {
        KERNEL: "image",
        # kernels of other languages that the image has are offered too
        "JUPYTER_PATH": ":".join([SHARE, *own, f"{ROOT}/usr/local/share/jupyter"]),
        "JUPYTER_CONFIG_PATH": ":".join(
            [jupyter.CONFIG_DIR, SHARE, f"{ROOT}/usr/local/etc/jupyter", f"{ROOT}/etc/jupyter"]
        ),
    }


def files(found: Found, layout: Layout) -> dict[str, str]:
    """Path below SHARE -> content."""
    ours = [*layout.command(), "-s", "-m", "ipykernel_launcher"]
    argv = ours if found.lacks else [found.python, f"{SHARE}/{LAUNCH}"]
    kernel = {
        "argv": [*argv, "-f", "{connection_file}"],
        "display_name": "Python 3 (the appliance's)" if found.lacks else f"Python {found.shown_version}",
        "language": "python",
        "metadata": {"debugger": True},
    }
    settings: dict[str, Any] = {"KernelSpecManager": {"ensure_native_kernel": False}}
    if found.shell:
        settings["ServerApp"] = {"terminado_settings": {"shell_command": [found.shell]}}
    return {
        "kernels/python3/kernel.json": json.dumps(kernel, indent=1),
        "jupyter_server_config.json": json.dumps(settings, indent=1),
        LAUNCH: (INSIDE / LAUNCH).read_text(encoding="utf-8"),
    }


def name_of(content: Mapping[str, str]) -> str:
    return f"share-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]}"
