"""What Jupyter says of its kernels and terminals, asked over its own API. Its answers are foreign text.

Asking is no activity: only the times that Jupyter keeps of each kernel and terminal are used, and those as marks that
have changed or not, since they are of the session's clock. What an open page asks for by itself changes none of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from appliance.foreign import clean
from appliance.notebooks.jupyter import base_url

ASK_TIMEOUT_S = 5.0
UNTRACKED = {"no_track_activity": "1"}
MOST_BYTES = 1 << 20
MOST_NAME = 60
"""Characters of a notebook's name that are shown."""


class Silent(Exception):
    """Jupyter does not say what it does; in words why."""


@dataclass(frozen=True, slots=True)
class Kernel:
    name: str
    """The notebook it belongs to, or the kind of kernel."""
    busy: bool
    last: str
    """A mark that changes with each activity."""
    connections: int


@dataclass(frozen=True, slots=True)
class Told:
    kernels: Mapping[str, Kernel]
    terminals: Mapping[str, str]
    """Terminal -> a mark that changes with each activity."""
    asked: str = ""
    """A mark that changes with whatever Jupyter is asked for, where saves cannot be seen; empty: they can."""

    @property
    def connections(self) -> int:
        """Pages and programs that are connected to a kernel."""
        return sum(kernel.connections for kernel in self.kernels.values())


async def ask(client: httpx2.AsyncClient, port: int, name: str, token: str) -> Told:
    """Of notebook `name` whose Jupyter is on 127.0.0.1:`port`. Raises Silent."""
    root = f"http://127.0.0.1:{port}{base_url(name)}api"
    # not compressed: a megabyte of that may become a gigabyte
    headers = {"Authorization": f"token {token}", "Accept-Encoding": "identity"}
    sessions = await _list(client, f"{root}/sessions", headers)
    told = read(
        await _list(client, f"{root}/kernels", headers),
        sessions,
        await _list(client, f"{root}/terminals", headers, missing=True),  # a server may have them switched off
    )
    if await _tells_of_saves(client, f"http://127.0.0.1:{port}{base_url(name)}appliance/state", headers):
        return told
    found = await _get(client, f"{root}/status", headers)
    if not isinstance(found, dict) or not found.get("last_activity"):
        raise Silent("neither its saves nor what it is asked for can be seen")
    return replace(told, asked=str(found["last_activity"]))


async def _tells_of_saves(client: httpx2.AsyncClient, url: str, headers: Mapping[str, str]) -> bool:
    """Whether it has loaded what the appliance brings, which signals saves too. One begun before that has not."""
    try:
        async with client.stream(
            "GET", url, headers=headers, params=UNTRACKED, timeout=ASK_TIMEOUT_S, follow_redirects=False
        ) as answer:
            return answer.status_code == 200
    except httpx2.HTTPError:
        return False


def read(kernels: Sequence[Any], sessions: Sequence[Any], terminals: Sequence[Any]) -> Told:
    """Raises Silent for what no Jupyter says."""
    try:
        paths = {str(one["kernel"]["id"]): str(one["path"]) for one in sessions if one.get("kernel")}
        found = {
            str(one["id"]): Kernel(
                name=_shown(paths.get(str(one["id"])) or str(one.get("name", ""))),
                busy=one["execution_state"] == "busy",
                last=str(one["last_activity"]),
                connections=max(0, int(one.get("connections") or 0)),
            )
            for one in kernels
        }
        return Told(found, {str(one["name"]): str(one.get("last_activity", "")) for one in terminals})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Silent("its answer is not one of Jupyter's") from error


async def _list(
    client: httpx2.AsyncClient, url: str, headers: Mapping[str, str], *, missing: bool = False
) -> list[Any]:
    found = await _get(client, url, headers, missing=missing)
    if not isinstance(found, list):
        raise Silent(f"its list of {url.rpartition('/')[2]} is no list")
    return found


async def _get(client: httpx2.AsyncClient, url: str, headers: Mapping[str, str], *, missing: bool = False) -> Any:
    """`missing`: what is not there is an empty list."""
    what = url.rpartition("/")[2]
    body = bytearray()
    try:
        async with client.stream(
            "GET",
            url,
            headers=headers,
            params=UNTRACKED,
            timeout=ASK_TIMEOUT_S,
            follow_redirects=False,
        ) as answer:
            if answer.status_code == 404 and missing:
                return []
            if answer.status_code != 200:
                raise Silent(f"asked for its {what} it answers with status {answer.status_code}")
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MOST_BYTES:
                    raise Silent(f"its list of {what} has no end")
        return json.loads(body)
    except httpx2.TimeoutException:
        raise Silent(f"no answer within {ASK_TIMEOUT_S:.0f} s") from None
    except httpx2.HTTPError:
        raise Silent("its port does not answer") from None
    except (ValueError, RecursionError):
        raise Silent(f"its list of {what} is not JSON") from None


def _shown(name: str) -> str:
    name = clean(name)
    return name if len(name) <= MOST_NAME else f"...{name[3 - MOST_NAME :]}"
