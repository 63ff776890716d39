"""What a deployment brings into its containers: models, integrations, repositories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.spec.load import load_text
from appliance.spec.models import Deployment, Integration
from tests.unit.spec.conftest import Load, Wrong

GIT = "type: git-lfs, url: 'https://host/x'"
KEYS = "accessKeyId: secret:A, secretAccessKey: secret:B"


def deployment(load: Load, text: str) -> Deployment:
    spec = load(f"image: x\n{text}\n").spec
    assert isinstance(spec, Deployment)
    return spec


def test_each_type(load: Load) -> None:
    spec = deployment(
        load,
        f"""integrations:
  - {{{GIT}, name: opus, path: /data/opus}}
  - {{type: s3, name: logs, url: "s3://bucket/a/b/", region: eu-west-1, endpoint: minio.lan:9000, {KEYS}}}
  - {{type: do-spaces, name: space, endpoint: "https://bucket.fra1.digitaloceanspaces.com/", {KEYS}}}
  - {{type: volume, name: scratch}}
  - {{type: dataset, name: words, ref: team/words:latest}}
""",
    )
    assert spec.integrations == (
        Integration(type="git-lfs", name="opus", path="/data/opus", url="https://host/x"),
        Integration(
            type="s3",
            name="logs",
            path="/opt/integrations/logs",
            url="s3://bucket/a/b/",
            region="eu-west-1",
            endpoint="https://minio.lan:9000",
            access_key="secret:A",
            secret_key="secret:B",
        ),
        Integration(
            type="spaces",
            name="space",
            path="/opt/integrations/space",
            endpoint="https://bucket.fra1.digitaloceanspaces.com/",
            access_key="secret:A",
            secret_key="secret:B",
        ),
        Integration(type="volume", name="scratch", path="/opt/integrations/scratch"),
        Integration(type="dataset", name="words", path="/opt/integrations/words", ref="team/words:latest"),
    )


def test_a_private_repository_at_a_tag(load: Load) -> None:
    spec = deployment(load, f"integrations: [{{{GIT}, name: a, ref: v1, username: me, password: secret:HF}}]")
    (found,) = spec.integrations
    assert (found.ref, found.username, found.password) == ("v1", "me", "secret:HF")
    assert spec.extensions == ("integrations[0].password", "integrations[0].ref", "integrations[0].username")


def test_a_bucket_needs_no_keys(load: Load) -> None:
    (found,) = deployment(load, "integrations: [{type: s3, name: open, url: 's3://open'}]").integrations
    assert (found.access_key, found.secret_key) == ("", "")


def test_repositories_have_a_place_of_their_own(load: Load) -> None:
    found = deployment(
        load, "repositories: {dataset: d, repositories: [{url: 'https://host/x', name: x}]}"
    ).repositories
    assert found is not None
    assert found.path == "/opt/repos"


def test_what_shares_a_path_lies_in_it_by_name(load: Load) -> None:
    """The page says that NAME is put behind `path`, the template that `path` is all: only the first can be meant."""
    items = f"[{{{GIT}, name: a, path: /data}}, {{{GIT}, name: b, path: /data/}}, {{{GIT}, name: c, path: /other}}]"
    assert [one.path for one in deployment(load, f"integrations: {items}").integrations] == [
        "/data/a",
        "/data/b",
        "/other",
    ]


@given(st.lists(st.sampled_from(["", "/data", "/data/", "/data/a", "/other"]), max_size=5))
def test_no_two_are_at_one_place(paths: list[str]) -> None:
    """Or it is told."""
    items = [{"type": "volume", "name": f"v{n}"} | ({"path": path} if path else {}) for n, path in enumerate(paths)]
    text = str({"image": "x", "integrations": items})
    spec = load_text(text, file="a.yaml")[0].spec
    assert isinstance(spec, Deployment)
    places = [one.path.rstrip("/") for one in spec.integrations]
    assert len(set(places)) == len(places)


def test_what_lies_in_another_is_pointed_out(load: Load) -> None:
    found = load("image: x\nmodels: [{id: a}, {id: b, path: /opt/models/b}]\n")
    (warning,) = found.warnings
    assert warning.path == "models[1]"
    assert "inside of models[0]" in warning.message


ITEMS = [
    ("{type: ftp, name: a}", "type", "must be `git-lfs`", ""),
    ("{type: gitlfs, name: a}", "type", "must be `git-lfs`", "did you mean `git-lfs`?"),
    ("{name: a}", "type", "is required", ""),
    ("{type: model, name: a}", "id", "is required", ""),
    ("{type: volume, name: ../a}", "name", "folder's name", ""),
    (f"{{{GIT}}}", "name", "is required", ""),
    ("{type: git-lfs, name: a}", "url", "is required", "https://"),
    ("{type: git-lfs, name: a, url: ../x}", "url", "not a git address", "https://"),
    ("{type: git-lfs, name: a, url: 'ssh://git@host/x'}", "url", "not a git address", ""),
    ("{type: git-lfs, name: a, url: '-uexec'}", "url", "not a git address", ""),
    ("{type: git-lfs, name: a, url: 'https://host/$X'}", "url", "is no address", "event and variables"),
    ("{type: git-lfs, name: a, url: context.event.github.url}", "url", "is no address", "event and variables"),
    (f"{{{GIT}, name: a, path: x}}", "path", "not an absolute path", ""),
    (f"{{{GIT}, name: a, path: /a/../b}}", "path", "not an absolute path", ""),
    (f"{{{GIT}, name: a, path: /}}", "path", "not an absolute path", ""),
    (f"{{{GIT}, name: a, branch: main}}", "branch", "unknown key", "write `ref`"),
    (f"{{{GIT}, name: a, ref: a..b}}", "ref", "not a branch", ""),
    (f"{{{GIT}, name: a, ref: $X}}", "ref", "is no branch", "event and variables"),
    (f"{{{GIT}, name: a, password: hunter2}}", "password", "must be a secret", ""),
    ("{type: s3, name: a}", "url", "is required", "s3://"),
    ("{type: s3, name: a, url: 'https://bucket'}", "url", "not a bucket address", "s3://"),
    ("{type: s3, name: a, url: 's3://'}", "url", "not a bucket address", "s3://"),
    ("{type: s3, name: a, url: 's3://bucket', endpoint: 'ftp://x'}", "endpoint", "address of a server", "https://"),
    ("{type: s3, name: a, url: 's3://bucket', endpoint: 'https://u:p@x'}", "endpoint", "holds a login", "accessKeyId"),
    ("{type: s3, name: a, url: 's3://bucket', accessKeyId: AKIA}", "accessKeyId", "must be a secret", ""),
    ("{type: s3, name: a, url: 's3://bucket', accessKeyId: secret:A}", "secretAccessKey", "is required", "login"),
    ("{type: s3, name: a, url: 's3://bucket', bucket: b}", "bucket", "unknown key", "url: s3://"),
    ("{type: spaces, name: a}", "endpoint", "is required", "BUCKET"),
    ("{type: spaces, name: a, endpoint: fra1.digitaloceanspaces.com}", "endpoint", "names no bucket", "BUCKET"),
    ("{type: dataset, name: a}", "ref", "is required", "NAME:VERSION"),
    ("{type: dataset, name: a, ref: ../b}", "ref", "not a dataset reference", ""),
]


@pytest.mark.parametrize(("item", "key", "words", "hint"), ITEMS)
def test_mistakes_in_an_integration(wrong: Wrong, item: str, key: str, words: str, hint: str) -> None:
    problems = wrong(f"image: x\nintegrations: [{item}]\n")
    found = next(problem for problem in problems if problem.path == f"integrations[0].{key}")
    assert (words in found.message, hint in found.hint) == (True, True), found
    assert found.line


HERE = "url: 'https://host/x', name: x"
ONE = f"{{{HERE}}}"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (
            f"integrations: [{', '.join(f'{{type: volume, name: v{n}}}' for n in range(6))}]",
            "integrations",
            "at most 5",
        ),
        (
            f"integrations: [{{{GIT}, name: a, path: /p}}, {{{GIT}, name: a, path: /q}}]",
            "integrations[1].name",
            "name of an integration above",
        ),
        (
            f"models: [{{id: m, path: /m}}]\nintegrations: [{{{GIT}, name: a, path: /m/}}]",
            "integrations[0]",
            "models[0]",
        ),
        (
            f"integrations: [{{{GIT}, name: a, path: /r}}]\n"
            f"repositories: {{dataset: d, mountPath: /r, repositories: [{ONE}]}}",
            "repositories",
            "integrations[0]",
        ),
        (f"repositories: {{repositories: [{ONE}]}}", "repositories.dataset", "is required"),
        (f"repositories: {{dataset: 'd:1', repositories: [{ONE}]}}", "repositories.dataset", "names none"),
        ("repositories: {dataset: d}", "repositories.repositories", "is required"),
        (
            f"repositories: {{dataset: d, path: /x, repositories: [{ONE}]}}",
            "repositories.path",
            "unknown key",
        ),
        (
            f"repositories: {{dataset: d, repositories: [{ONE}, {ONE}]}}",
            "repositories.repositories[1]",
            "name of a repository above",
        ),
        (
            "repositories: {dataset: d, repositories: [{url: 'https://host/x', name: '..'}]}",
            "repositories.repositories[0].name",
            "folder's name",
        ),
        (
            f"repositories: {{dataset: d, repositories: [{{{HERE}, ref: context.event.github.ref}}]}}",
            "repositories.repositories[0].ref",
            "no branch",
        ),
        (
            "repositories: {dataset: d, repositories: [{url: 'https://host/x', name: x, password: hunter2}]}",
            "repositories.repositories[0].password",
            "must be a secret",
        ),
    ],
)
def test_mistakes_among_several(wrong: Wrong, text: str, path: str, words: str) -> None:
    found = next(problem for problem in wrong(f"image: x\n{text}\n") if problem.path == path)
    assert words in found.message, found
    assert found.line
