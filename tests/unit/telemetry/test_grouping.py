from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, push_to_gateway

from appliance.errors import UsageError
from appliance.telemetry.push.grouping import grouping_key

LABELS = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,10}", fullmatch=True).filter(lambda name: name != "job")
# the library writes a space as a plus sign, which a Pushgateway does not take back
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" "), max_size=20)


def path_of(job: str, key: dict[str, str]) -> str:
    """As the client library asks for it."""
    asked: list[str] = []

    def handler(url: str, method: str, timeout: object, headers: object, data: object) -> object:
        asked.append(url.removeprefix("http://gateway:9091"))
        return lambda: None

    push_to_gateway("gateway:9091", job, CollectorRegistry(), key, handler=handler)
    return asked[0]


@given(TEXTS.filter(bool), st.dictionaries(LABELS, TEXTS, max_size=4))
def test_what_the_client_library_asks_for_is_read_back(job: str, key: dict[str, str]) -> None:
    assert grouping_key(path_of(job, key)) == {"job": job, **key}


@given(st.text(max_size=60))
def test_any_path_is_read_or_refused_in_words(rest: str) -> None:
    try:
        found = grouping_key("/metrics/job/" + rest)
    except UsageError as error:
        hint = error.hint
    else:
        assert found["job"]
        return
    assert hint


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/metrics/job/x", {"job": "x"}),
        ("/metrics/job/x/", {"job": "x"}),
        ("/metrics/job@base64/eA", {"job": "x"}),
        ("/metrics/job/x/step/None", {"job": "x", "step": "None"}),
        ("/metrics/job/x/path@base64/L3Zhci90bXA", {"job": "x", "path": "/var/tmp"}),
        ("/metrics/job/x/path@base64/L3Zhci90bXA=", {"job": "x", "path": "/var/tmp"}),
        ("/metrics/job/x/empty@base64/=", {"job": "x", "empty": ""}),
        ("/metrics/job/a%2Fb/a/b+c%20d", {"job": "a/b", "a": "b+c d"}),
    ],
)
def test_forms_of_a_path(path: str, expected: dict[str, str]) -> None:
    assert grouping_key(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/metrics/job",
        "/metrics/job/",
        "/metrics/job@base64/=",
        "/metrics/instance/x",
        "/metrics/instance/x/job/y",
        "/metricsjob/x",
        "/metrics/job/x/a",
        "/metrics/job/x/__a/b",
        "/metrics/job/x/a-b/c",
        "/metrics/job/x/a@base64/!",
        "/metrics/job/x/a@base64/_w",
        "/metrics/job/x/a@base64/a",
        "/metrics/job/%ff",
        "/metrics/job/x/a/" + "v" * 1001,
        "/metrics/job/x" + "".join(f"/l{number}/v" for number in range(30)),
    ],
)
def test_what_is_no_path_of_a_push(path: str) -> None:
    with pytest.raises(UsageError):
        grouping_key(path)
