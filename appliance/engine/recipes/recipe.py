"""What a built-in image is made of, as data, and the digest that tells whether a built one is still the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from appliance.engine.labels import PREFIX

RECIPE_LABEL = PREFIX + "recipe"
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    ref: str
    """Name and tag, such as `appliance/base:latest`."""
    parent: str = ""
    """The recipe this one is made from; empty: made from the distribution."""
    packages: Sequence[str] = ()
    """Of the distribution."""
    python: Sequence[str] = ()
    """Requirements, as pip takes them."""
    without: Sequence[str] = ()
    """Python packages that the requirements bring along and that are taken out again."""
    trim: Sequence[str] = ()
    """Python packages whose own tests are left out."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Absolute path -> text."""
    folders: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ("bash",)
    ports: Sequence[int] = ()
    workdir: str = "/"
    check: Sequence[str] = ()
    """A command that must end well in the finished image, else it gets no name."""

    @property
    def name(self) -> str:
        """The ref without its tag: what a user types."""
        return self.ref.partition(":")[0]

    def digest(self, *salt: str) -> str:
        """Of all of the above and of `salt`: what else the image is made from."""
        text = json.dumps([asdict(self), salt], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def config(self, digest: str) -> dict[str, Any]:
        """The engine's image configuration."""
        return {
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Cmd": list(self.command),
            "WorkingDir": self.workdir,
            "ExposedPorts": {f"{port}/tcp": {} for port in self.ports},
            "Labels": {RECIPE_LABEL: digest},
        }

    def changes(self, digest: str) -> list[str]:
        """The same as Dockerfile instructions, for an import."""
        lines = [f"ENV {name}={json.dumps(value)}" for name, value in self.env.items()]
        lines += [f"EXPOSE {port}" for port in self.ports]
        return [
            *lines,
            f"CMD {json.dumps(list(self.command))}",
            f"WORKDIR {self.workdir}",
            f"LABEL {RECIPE_LABEL}={digest}",
        ]
