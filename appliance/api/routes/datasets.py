"""Dataset versions: what there is of them, what is in them, their tags, branches and lineage."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, views
from appliance.api.files import FileResponse
from appliance.api.parts import Parts
from appliance.api.stream import ArchiveResponse, LinesResponse
from appliance.datasets import lineage, reading, uses
from appliance.datasets.sizes import Size
from appliance.errors import Conflict, UsageError
from appliance.paths import decode
from appliance.state import resources
from appliance.state.models import Model
from appliance.state.versions import Version

MOST_TEXT = 1000
MOST_ENTRIES = 10_000
"""Of a listing where no limit is given."""
MOST_FILES = 20_000
"""That are asked for in one pack."""


def routes(parts: Parts) -> list[Route]:
    def name_of(request: Request) -> str:
        return str(request.path_params["name"])

    def chosen(request: Request) -> Version:
        """The newest version unless `version` names another."""
        version = request.query_params.get("version", "")
        return parts.datasets.resolve(f"{name_of(request)}:{version}" if version else name_of(request))

    def show_all(name: str, rows: list[Version], sizes: list[Size] | None = None) -> list[wire.Version]:
        db, tags = parts.db.read, parts.datasets.tags(name)
        used = uses.of_versions(db)
        return [
            views.version(
                row,
                dataset=name,
                tags=tags,
                parent=lineage.ref_of(db, *row.parent.split(":")) if row.parent else "",
                used_by=used.get((row.dataset, row.version), ()),
                size=sizes[number] if sizes else None,
            )
            for number, row in enumerate(rows)
        ]

    async def versions(request: Request) -> Response:
        name = parts.datasets.get(name_of(request)).name
        rows = [row for row in parts.datasets.versions(name) if row.committed is not None]
        sizes = await parts.datasets.sizes.of(rows) if requests.flag(request, "sizes") else None
        return JSONResponse({"items": show_all(name, rows, sizes)})

    async def version(request: Request) -> Response:
        """Reading one, or removing it for good."""
        name = parts.datasets.get(name_of(request)).name
        row = parts.datasets.find(name, request.path_params["version"])
        ref = f"{name}:{row.version}"
        if request.method == "GET":
            return JSONResponse(show_all(name, [row], await parts.datasets.sizes.of([row]))[0])
        if row.committed is None:
            await parts.uploads.abandon(row)
        elif request.query_params.get("confirm", "") != ref:
            raise Conflict(
                f"removing version {row.version} destroys its content",
                where=f"dataset {name}",
                hint=f"confirm with the version: `appliance dataset remove {ref} --confirm {ref}`",
            )
        else:
            await parts.datasets.remove(row)
        return Response(status_code=204)

    async def files(request: Request) -> Response:
        found = await reading.listing(parts.datasets, chosen(request), decode(request.query_params.get("path", "")))
        shown = found[: requests.count(request, "limit", MOST_ENTRIES)]
        return JSONResponse(wire.Entries(items=[views.entry(entry) for entry in shown], total=len(found)))

    async def file(request: Request) -> Response:
        path = decode(request.query_params.get("path", ""))
        opened = reading.file(parts.datasets, chosen(request), path)
        return await FileResponse.of(opened, path, parts.stopping)

    async def manifest(request: Request) -> Response:
        """Lines of JSON: path, kind, size, mtime_ns, executable, target of each entry; of what cannot be fetched (a
        fifo, for one) the path; at last their number."""
        path = request.query_params.get("path", "").strip("/")
        return await LinesResponse.begin(reading.manifest(parts.datasets, chosen(request), path), parts.stopping)

    async def archive(request: Request) -> Response:
        """Files, directories and links as a tar archive, for other programs."""
        path = request.query_params.get("path", "").strip("/")
        return await ArchiveResponse.begin(reading.archive(parts.datasets, chosen(request), path), parts.stopping)

    async def packed(request: Request) -> Response:
        """As much of the files that are asked for as fits into one pack; its Content-Digest is as in RFC 9530."""
        asked = (await requests.body(request, wire.PackRequest))["files"]
        if len(asked) > MOST_FILES:
            raise UsageError(f"at most {MOST_FILES} files in one request", where=name_of(request))
        path = request.query_params.get("path", "").strip("/")
        content = await reading.pack(parts.datasets, chosen(request), path, asked)
        headers = {"Content-Digest": await requests.digest_of(content)}
        return Response(content, media_type="application/x-tar", headers=headers)

    async def tag(request: Request) -> Response:
        if request.method == "DELETE":
            parts.datasets.untag(name_of(request), request.path_params["tag"])
        else:
            asked = await requests.body(request, wire.TagRequest)
            parts.datasets.tag(name_of(request), asked["version"], request.path_params["tag"])
        return Response(status_code=204)

    async def hold(request: Request) -> Response:
        row = parts.datasets.resolve(f"{name_of(request)}:{request.path_params['version']}")
        if request.method == "DELETE":
            parts.datasets.release(row)
            return Response(status_code=204)
        reason = (await requests.body(request, wire.HoldRequest)).get("reason", "")
        if len(reason) > MOST_TEXT:
            raise UsageError(f"the reason has more than {MOST_TEXT} characters", where=name_of(request))
        parts.datasets.hold(row, reason)
        return Response(status_code=204)

    async def branch(request: Request) -> Response:
        asked = await requests.body(request, wire.BranchRequest)
        version = asked.get("version", "")
        source = parts.datasets.resolve(f"{name_of(request)}:{version}" if version else name_of(request))
        row = parts.datasets.branch(source, asked["name"], message=asked.get("message", ""))
        return JSONResponse(show_all(asked["name"], [row])[0], 201)

    async def lineage_(request: Request) -> Response:
        found = lineage.of_version(parts.db.read, chosen(request))
        return JSONResponse(views.lineage(found, model_of))

    def model_of(row: Model) -> wire.Model:
        dataset = resources.find_uid(parts.db.read, row.dataset)
        return views.model(row, dataset=dataset.name if dataset else row.dataset)

    one = "/v1/datasets/{name}"
    return [
        Route(f"{one}/versions", versions, methods=["GET"]),
        Route(f"{one}/versions/{{version}}", version, methods=["GET", "DELETE"]),
        Route(f"{one}/versions/{{version}}/hold", hold, methods=["PUT", "DELETE"]),
        Route(f"{one}/files", files, methods=["GET"]),
        Route(f"{one}/file", file, methods=["GET"]),
        Route(f"{one}/manifest", manifest, methods=["GET"]),
        Route(f"{one}/archive", archive, methods=["GET"]),
        Route(f"{one}/archive", packed, methods=["POST"]),
        Route(f"{one}/tags/{{tag}}", tag, methods=["PUT", "DELETE"]),
        Route(f"{one}/branch", branch, methods=["POST"]),
        Route(f"{one}/lineage", lineage_, methods=["GET"]),
    ]
