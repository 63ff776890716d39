"""Names of ours for images that are needed as they are: their own name may move on to another image.

A name is `appliance/kept:INSTANCE-` and what its owner calls it, so that two appliances on one engine do not take each
other's back.
"""

from __future__ import annotations

from collections.abc import Collection

import docker
import docker.errors

from appliance.engine.client import Client

KEPT = "appliance/kept"
_CONFLICT = 409


async def keep(client: Client, instance: str, image_id: str, name: str) -> None:
    """One that has no name at all is somebody's who asks for it by its id, and is left to them; so is one that is gone.

    Done again, it changes nothing.
    """

    def work(api: docker.APIClient) -> None:
        try:
            found = api.inspect_image(image_id)  # type: ignore[no-untyped-call]
            if found.get("RepoTags") or found.get("RepoDigests"):
                api.tag(image_id, KEPT, f"{instance}-{name}", force=True)
        except docker.errors.NotFound:
            return

    await client.call(work)


async def let_go(client: Client, instance: str, prefix: str = "", keep: Collection[str] = ()) -> None:
    """Take back the names that begin so, but for those in `keep`. An image that has no other name goes with its last
    one, but one that a container is made of stays."""
    ours = f"{KEPT}:{instance}-"

    def work(api: docker.APIClient) -> None:
        for image in api.images(filters={"reference": f"{ours}{prefix}*"}):
            for ref in image.get("RepoTags") or ():
                if ref.startswith(f"{ours}{prefix}") and ref.removeprefix(ours) not in keep:
                    _untag(api, ref)

    await client.call(work)


def _untag(api: docker.APIClient, ref: str) -> None:
    try:
        api.remove_image(ref)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != _CONFLICT:
            raise
