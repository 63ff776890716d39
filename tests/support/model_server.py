"""A small model server for tests: a container runs it from its own text, with nothing but Python in the image.

`GET /predict?ms=20` answers with $VERSION, `POST /predict` reads a body first; `/health` is 503 for the first $WARM_UP
seconds; `/v1/...` speaks OpenAI's protocol, streamed or not, one word each $TOKEN_S seconds. `/hang` makes it accept
and never answer, `/ill` lets its liveness probe fail, `/die` ends it at once, `/left` tells which clients went away in
mid-answer. $CRASH: it says that and ends with code 3. It listens on $PORTS.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

STARTED = time.monotonic()
VERSION = os.environ.get("VERSION", "?")
WARM_UP = float(os.environ.get("WARM_UP", "0"))
TOKEN_S = float(os.environ.get("TOKEN_S", "0.05"))


@dataclass
class State:
    hanging: bool = False
    ill: bool = False
    left: list[float] = field(default_factory=list)
    """Seconds from the last piece that was sent to when the client's going was noticed, one for each that went."""
    served: int = 0


STATE = State()


@dataclass
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    def number(self, name: str, default: float) -> float:
        return float(parse_qs(urlsplit(self.target).query).get(name, [str(default)])[0])


async def read(reader: asyncio.StreamReader) -> Asked | None:
    """None: the client has gone."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        fields = (line.partition(":") for line in lines[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        body = b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await reader.readline()).split(b";")[0], 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        return None
    return Asked(method, target, headers, body)


def answer(writer: asyncio.StreamWriter, status: int, body: str | bytes, kind: str = "text/plain", **more: str) -> None:
    content = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": kind, "Content-Length": str(len(content)), "X-Version": VERSION, **more}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content)


async def pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, texts: list[str], every_s: float) -> bool:
    """Server-sent events, one each `every_s`. False: the client went before the end."""
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-Version: "
        + VERSION.encode()
        + b"\r\n\r\n"
    )
    gone = asyncio.ensure_future(reader.read(1))
    try:
        for text in texts:
            piece = f"data: {text}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            sent = time.monotonic()
            await writer.drain()
            await asyncio.wait([gone], timeout=every_s)
            if gone.done():
                STATE.left.append(time.monotonic() - sent)
                return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return False  # what `gone` may have read of a next request is lost: one stream per connection
    except ConnectionError:
        STATE.left.append(0.0)
        return False
    finally:
        gone.cancel()


async def complete(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """/v1/chat/completions: it repeats the words it is given, after its version."""
    if (key := os.environ.get("API_KEY")) and asked.headers.get("authorization") != f"Bearer {key}":
        answer(writer, 401, json.dumps({"error": {"message": "wrong key", "type": "auth"}}), "application/json")
        return True
    document = json.loads(asked.body)
    words = [VERSION, *document["messages"][-1]["content"].split()]
    common = {"id": "chatcmpl-1", "created": int(time.time()), "model": document["model"]}
    if not document.get("stream"):
        await asyncio.sleep(TOKEN_S)
        message = {"role": "assistant", "content": " ".join(words)}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": 1 + len(words)}
        told = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
        answer(writer, 200, json.dumps(told), "application/json")
        return True
    texts = []
    for number, word in enumerate(words):
        delta = {"index": 0, "finish_reason": None, "delta": {"content": f" {word}" if number else word}}
        texts.append(json.dumps({**common, "object": "chat.completion.chunk", "choices": [delta]}))
    end = {"index": 0, "finish_reason": "stop", "delta": {}}
    texts += [json.dumps({**common, "object": "chat.completion.chunk", "choices": [end]}), "[DONE]"]
    return await pieces(reader, writer, texts, TOKEN_S)


async def one(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request. False: the connection ends with it."""
    path = asked.path
    if STATE.hanging:
        await asyncio.Event().wait()
    if path == "/health":
        warm = time.monotonic() - STARTED >= WARM_UP
        answer(writer, 200 if warm else 503, VERSION)
    elif path == "/live":
        answer(writer, 503 if STATE.ill else 200, VERSION)
    elif path == "/die":
        os._exit(7)
    elif path == "/hang":
        answer(writer, 200, VERSION)
        STATE.hanging = True
    elif path == "/ill":
        answer(writer, 200, VERSION)
        STATE.ill = True
    elif path == "/left":
        answer(writer, 200, json.dumps(STATE.left), "application/json")
    elif path == "/env":
        answer(writer, 200, json.dumps(dict(os.environ)), "application/json")
    elif path == "/headers":
        answer(writer, 200, json.dumps(asked.headers), "application/json")
    elif path == "/argv":
        answer(writer, 200, json.dumps(sys.argv[1:]), "application/json")
    elif path == "/file":
        name = parse_qs(urlsplit(asked.target).query)["path"][0]
        try:
            answer(writer, 200, Path(name).read_bytes())
        except OSError as error:
            answer(writer, 404, str(error))
    elif path == "/v1/models":
        model = {"id": os.environ.get("MODEL", "tiny"), "object": "model", "created": 0, "owned_by": "tests"}
        answer(writer, 200, json.dumps({"object": "list", "data": [model]}), "application/json")
    elif path == "/v1/chat/completions":
        return await complete(asked, reader, writer)
    elif path == "/stream":
        every = asked.number("every", 0.25)
        texts = [f"{VERSION} {number}" for number in range(round(asked.number("seconds", 5) / every))]
        return await pieces(reader, writer, texts, every)
    else:
        await asyncio.sleep(asked.number("ms", 0) / 1000)
        STATE.served += 1
        answer(writer, 200, f"{VERSION} {len(asked.body)}" if asked.method == "POST" else VERSION, X_Path=asked.target)
    await writer.drain()
    return True


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (asked := await read(reader)) and await one(asked, reader, writer):
            pass
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main() -> None:
    if crash := os.environ.get("CRASH"):
        print(crash, flush=True)
        sys.exit(3)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    ports = os.environ.get("PORTS", "8000").split(",")
    servers = [await asyncio.start_server(serve, "0.0.0.0", int(port), backlog=1024) for port in ports]
    print(f"serving version {VERSION}", flush=True)
    await ended.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
