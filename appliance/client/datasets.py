"""Dataset versions: reading, tagging, branching and removing them; models and lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from appliance.client.kinds import Kinds
from appliance.client.transport import WORK_S

if TYPE_CHECKING:
    from appliance import wire


class Datasets(Kinds):
    """`version` is an id or a tag; empty: the newest, where it may be left out."""

    def versions(self, dataset: str, *, sizes: bool = False) -> list[wire.Version]:
        """Newest first. `sizes`: with what each has for itself and what it shares, which takes longer to tell."""
        query = {"sizes": int(sizes)}
        return cast("list[wire.Version]", self._json("GET", f"{dataset_path(dataset)}/versions", query)["items"])

    def version(self, dataset: str, version: str) -> wire.Version:
        return cast("wire.Version", self._json("GET", f"{dataset_path(dataset)}/versions/{quote(version, safe='')}"))

    def remove_version(self, dataset: str, version: str, *, confirm: str = "") -> None:
        """A committed version, for which `confirm` is `NAME:VERSION`, or an upload that is not."""
        path = f"{dataset_path(dataset)}/versions/{quote(version, safe='')}"
        self.call("DELETE", path, {"confirm": confirm}, timeout_s=WORK_S)

    def version_entries(self, dataset: str, version: str = "", path: str = "", *, limit: int = 0) -> wire.Entries:
        """What lies in a directory of a version, the newest unless `version` names another."""
        query = {"version": version, "path": path, "limit": limit or ""}
        return cast("wire.Entries", self._json("GET", f"{dataset_path(dataset)}/files", query))

    def tag(self, dataset: str, version: str, tag: str) -> None:
        self._json("PUT", f"{dataset_path(dataset)}/tags/{quote(tag, safe='')}", body={"version": version})

    def untag(self, dataset: str, tag: str) -> None:
        self._json("DELETE", f"{dataset_path(dataset)}/tags/{quote(tag, safe='')}")

    def hold_version(self, dataset: str, version: str, reason: str = "") -> None:
        self._json("PUT", f"{dataset_path(dataset)}/versions/{quote(version, safe='')}/hold", body={"reason": reason})

    def release_version(self, dataset: str, version: str) -> None:
        self._json("DELETE", f"{dataset_path(dataset)}/versions/{quote(version, safe='')}/hold")

    def branch(self, dataset: str, name: str, *, version: str = "", message: str = "") -> wire.Version:
        """A dataset `name` whose first version shares the content of this one."""
        return cast(
            "wire.Version",
            self.act("datasets", dataset, "branch", {"name": name, "version": version, "message": message}),
        )

    def lineage(self, dataset: str, version: str = "") -> wire.Lineage:
        return cast("wire.Lineage", self._json("GET", f"{dataset_path(dataset)}/lineage", {"version": version}))

    def create_model(self, name: str, ref: str, model_type: str) -> wire.Model:
        return cast("wire.Model", self._json("POST", "/v1/models", body={"name": name, "ref": ref, "type": model_type}))

    def model_lineage(self, model: str) -> wire.ModelLineage:
        return cast("wire.ModelLineage", self._json("GET", f"/v1/models/{quote(model, safe='')}/lineage"))


def dataset_path(name: str) -> str:
    return f"/v1/datasets/{quote(name, safe='')}"
