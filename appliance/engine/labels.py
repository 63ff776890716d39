"""The labels that tell whose a container is. They are the truth after a restart: containers are found by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "dev.appliance."
CONTENT = "content"
"""Kind of the containers that fetch something for a deployment; `name` and `uid` are the deployment's."""

WORKSPACE = "workspace"
"""The same for a notebook."""
EXECUTION = "execution"
"""Kind of the containers that execute a file of a notebook; `name` is the notebook's, `uid` the execution's id."""

GPUS = PREFIX + "gpus"
"""UUIDs of the GPUs that a container was made with, as `GPU-1,GPU-2`; absent: it has none."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a container works for.

    `kind` and `name` name the resource a user knows: a notebook, a deployment, or a run as `WORKFLOW.NUMBER`.
    """

    instance: str
    """The appliance's own id: two appliances on one engine never touch each other's containers."""
    kind: str
    name: str
    uid: str
    """Of the resource, or the run's id."""
    part: str = ""
    """Job name within a run, replica within a deployment."""
    generation: int = 0
    digest: str = ""
    """Of what the container was made from; another digest means it must be made again."""

    @property
    def shown_kind(self) -> str:
        """Of the resource that a user knows."""
        return {CONTENT: "deployment", WORKSPACE: "notebook", EXECUTION: "notebook"}.get(self.kind, self.kind)

    def to_labels(self) -> dict[str, str]:
        return {
            PREFIX + "instance": self.instance,
            PREFIX + "kind": self.kind,
            PREFIX + "name": self.name,
            PREFIX + "uid": self.uid,
            PREFIX + "part": self.part,
            PREFIX + "generation": str(self.generation),
            PREFIX + "digest": self.digest,
        }


def owner_of(labels: Mapping[str, str]) -> Owner | None:
    """The owner a container's labels tell, or None where it is not an appliance's container."""
    if PREFIX + "instance" not in labels:
        return None
    generation = labels.get(PREFIX + "generation", "0")
    return Owner(
        instance=labels[PREFIX + "instance"],
        kind=labels.get(PREFIX + "kind", ""),
        name=labels.get(PREFIX + "name", ""),
        uid=labels.get(PREFIX + "uid", ""),
        part=labels.get(PREFIX + "part", ""),
        generation=int(generation) if generation.isdigit() else 0,
        digest=labels.get(PREFIX + "digest", ""),
    )
