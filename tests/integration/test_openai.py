"""OpenAI's own client against a served model: nothing in it has to know of the front door."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests.support.daemon import RunningDaemon, eventually
from tests.support.serving import apply, fetch, ready, served

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

KEY = "sk-0123456789"
WORDS = "to be or not to be"


@pytest.fixture(scope="module")
def llm(daemon: RunningDaemon, base_image: str) -> RunningDaemon:
    apply(daemon, served("llm", "v1", replicas=1, env={"API_KEY": KEY, "TOKEN_S": "0.25"}))
    ready(daemon, "llm", replicas=1)
    return daemon


@pytest.fixture
def client(llm: RunningDaemon) -> Iterator[openai.OpenAI]:
    with made(llm, KEY) as client:
        yield client


def made(daemon: RunningDaemon, key: str, timeout_s: float = 120) -> openai.OpenAI:
    """`max_retries=0`: what it would repeat by itself shall be seen."""
    url = f"{daemon.url}/deployments/llm/v1"
    http_client = httpx2.Client(trust_env=False)
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=timeout_s, http_client=http_client)


def ask(client: openai.OpenAI, words: str = WORDS) -> str:
    answer = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": words}])
    return answer.choices[0].message.content or ""


def stream(client: openai.OpenAI, words: str = WORDS) -> Iterator[tuple[float, str]]:
    """When each piece came, and what it was."""
    messages: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": words}]
    for chunk in client.chat.completions.create(model="tiny", messages=messages, stream=True):
        if text := chunk.choices[0].delta.content:
            yield time.monotonic(), text


def test_a_whole_answer_and_the_list_of_models(client: openai.OpenAI) -> None:
    assert ask(client) == f"v1 {WORDS}"
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_a_stream_comes_piece_by_piece_and_is_held_back_by_nobody(client: openai.OpenAI) -> None:
    pieces = list(stream(client))
    assert "".join(text for _, text in pieces) == f"v1 {WORDS}"
    spread = pieces[-1][0] - pieces[0][0]
    assert spread > 0.25 * (len(pieces) - 1) * 0.8, f"{len(pieces)} pieces within {spread:.2f} s"


def test_the_models_own_refusal_of_a_key_reaches_the_client(llm: RunningDaemon) -> None:
    with made(llm, "sk-wrong") as client, pytest.raises(openai.AuthenticationError, match="wrong key"):
        ask(client)


def test_a_client_that_waits_no_longer_gets_its_own_timeout(llm: RunningDaemon) -> None:
    with made(llm, KEY, timeout_s=0.05) as client, pytest.raises(openai.APITimeoutError):
        ask(client)


def test_a_client_that_goes_in_mid_answer_is_noticed_by_the_model(llm: RunningDaemon, client: openai.OpenAI) -> None:
    before = len(json.loads(fetch(llm, "/deployments/llm/left")[1]))
    pieces = stream(client, "word " * 400)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    client.close()
    eventually(
        lambda: len(json.loads(fetch(llm, "/deployments/llm/left")[1])) > before,
        within_s=20,
        what="the model notices, long before the 100 s that the whole answer lasts",
    )


def test_a_stream_outlasts_a_rollout_beside_it(llm: RunningDaemon, client: openai.OpenAI) -> None:
    words = " ".join(f"w{number}" for number in range(80))
    found: list[str] = []

    def read() -> None:
        found.extend(text for _, text in stream(client, words))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    eventually(lambda: found, within_s=20, what="the first words")
    apply(llm, served("llm", "v2", replicas=1, env={"API_KEY": KEY, "TOKEN_S": "0.25"}))
    llm.phase("deployments", "llm", "Ready")
    with made(llm, KEY) as newer:
        eventually(lambda: ask(newer) == f"v2 {WORDS}", within_s=30, what="the new revision answers")
    assert len(found) < 81, "the old one still speaks"
    reader.join(120)
    assert "".join(found) == f"v1 {words}"
    ready(llm, "llm", replicas=1)
