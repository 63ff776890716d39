"""Putting a dataset version over the API, in five steps: open it, send what it is to hold, hear what of that is
missing, send the missing in packs, commit it."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.datasets import lineage
from appliance.datasets.uploads import Upload
from appliance.errors import UsageError
from appliance.state.versions import Version

MOST_TEXT = 4096
MOST_TAGS = 32


def routes(parts: Parts) -> list[Route]:
    def version_of(request: Request) -> Version:
        return parts.datasets.find(request.path_params["name"], request.path_params["version"])

    async def begin(request: Request) -> Response:
        parts.space.demand("the upload")
        asked = await requests.body(request, wire.VersionRequest)
        name = parts.datasets.get(request.path_params["name"]).name
        source, message = asked.get("source", ""), asked.get("message", "")
        if len(source) > MOST_TEXT or len(message) > MOST_TEXT:
            raise UsageError(f"a text of more than {MOST_TEXT} characters", where=name)
        upload = Upload(source, asked.get("base", ""), asked.get("mirror", False))
        row, resumed = await parts.uploads.open(name, upload, message=message, anew=asked.get("restart", False))
        document = wire.OpenVersion(ref=f"{name}:{row.version}", version=row.version, resumed=resumed)
        return JSONResponse(document, 200 if resumed else 201)

    async def missing(request: Request) -> Response:
        """Lines of the manifest, as the manifest of a version has them; `first` and `last` mark the ends of it."""
        parts.space.demand("this part of the upload")
        found = await parts.uploads.missing(
            version_of(request),
            request.stream(),
            first=requests.flag(request, "first"),
            last=requests.flag(request, "last"),
        )
        return Response(orjson.dumps(found or {}, option=orjson.OPT_NON_STR_KEYS), media_type="application/json")

    async def pack(request: Request) -> Response:
        """A tar archive. A Content-Digest (RFC 9530) that it does not have is refused before anything is stored."""
        parts.space.demand("this part of the upload")  # what has arrived stays; sending it again goes on from there
        taken = await parts.uploads.pack(version_of(request), request.stream(), requests.expected_digest(request))
        return JSONResponse(wire.Packed(sha256=taken["sha256"], files=taken["files"], bytes=taken["bytes"]))

    async def commit(request: Request) -> Response:
        asked = await requests.body(request, wire.CommitRequest)
        message, tags = asked.get("message", ""), asked.get("tags", [])
        if len(message) > MOST_TEXT or len(tags) > MOST_TAGS:
            raise UsageError(f"at most {MOST_TEXT} characters and {MOST_TAGS} tags", where=request.path_params["name"])
        row = await parts.uploads.commit(version_of(request), message=message, tags=tags)
        name = parts.datasets.get(request.path_params["name"]).name
        parent = lineage.ref_of(parts.db.read, *row.parent.split(":")) if row.parent else ""
        return JSONResponse(views.version(row, dataset=name, tags=parts.datasets.tags(name), parent=parent))

    one = "/v1/datasets/{name}/versions"
    return [
        Route(one, begin, methods=["POST"]),
        Route(f"{one}/{{version}}/missing", missing, methods=["POST"]),
        Route(f"{one}/{{version}}/pack", pack, methods=["POST"]),
        Route(f"{one}/{{version}}/commit", commit, methods=["POST"]),
    ]
