"""What a job may say in addition to Gradient: deploy@v1, notebook@v1, retry, cache."""

from __future__ import annotations

import pytest

from appliance.spec.load import parse
from appliance.spec.models import Alias, DeployAction, NotebookAction, Output, Retry, Workflow
from tests.unit.spec.conftest import Load, Wrong

OURS = """
jobs:
  register:
    uses: create-model@v1
    with: {name: best, type: Custom}
    inputs: {model: {type: dataset, with: {ref: files}}}
    outputs: {model-id: {type: string}}
    retry: 3
  serve:
    uses: deploy@v1
    needs: [register]
    inputs: {model: register.outputs.model-id}
    outputs: {endpoint: {type: string}}
    with:
      name: digits
      path: /opt/models/digits
      timeout: 5m
      spec:
        image: nginx
        resources: {machineType: C5, ports: [8000], replicas: 2}
        env: [{name: A, value: b}]
  update:
    uses: deploy@v1
    needs: [register]
    inputs: {model: {type: dataset, with: {ref: files}}}
    with: {name: other}
    cache: false
  report:
    uses: notebook@v1
    inputs: {repo: {type: dataset, with: {ref: code}}}
    outputs: {executed: {type: volume}, other: {type: string}}
    retry: {limit: 2, delay: 1m}
    with:
      notebook: /inputs/repo/report.ipynb
      image: jupyter
      kernel: python3
      path: /outputs/executed/report.ipynb
      parameters: {epochs: 3, lr: 1.0e-4, name: "x", flags: [true, null], nested: {a: "1e-4"}}
"""


def test_the_whole_of_our_own(load: Load) -> None:
    found = load(OURS)
    spec = found.spec
    assert isinstance(spec, Workflow)
    serve, update, report = (spec.jobs[name] for name in ("serve", "update", "report"))
    assert isinstance(serve.action, DeployAction)
    assert (serve.action.name, serve.action.path, serve.action.ready_s) == ("digits", "/opt/models/digits", 300)
    assert serve.action.spec["resources"] == {"machineType": "C5", "ports": [8000], "replicas": 2}
    assert serve.inputs == {"model": Alias(job="register", name="model-id")}
    assert serve.outputs == {"endpoint": Output(type="string")}
    assert update.action == DeployAction(name="other")
    assert (update.cache, serve.cache) == (False, True)
    assert report.action == NotebookAction(
        notebook="/inputs/repo/report.ipynb",
        image="jupyter",
        kernel="python3",
        path="/outputs/executed/report.ipynb",
        parameters={"epochs": 3, "lr": 0.0001, "name": "x", "flags": [True, None], "nested": {"a": "1e-4"}},
    )
    assert [spec.jobs[name].retry for name in spec.jobs] == [
        Retry(limit=3),
        Retry(),
        Retry(),
        Retry(limit=2, delay_s=60),
    ]
    assert spec.extensions == (
        "jobs.register.retry",
        "jobs.report.retry",
        "jobs.report.uses",
        "jobs.serve.uses",
        "jobs.update.cache",
        "jobs.update.uses",
    )
    assert parse(found.kind, found.name, found.document) == spec


def deploy(parameters: str, rest: str = "inputs: {model: {type: dataset, with: {ref: d}}}") -> str:
    return f"uses: deploy@v1, with: {{{parameters}}}, {rest}"


def notebook(parameters: str, rest: str = "outputs: {o: {type: volume}}") -> str:
    return f"uses: notebook@v1, with: {{{parameters}}}, inputs: {{r: {{type: dataset, with: {{ref: d}}}}}}, {rest}"


def parameters(text: str) -> str:
    return notebook(f"notebook: /inputs/r/a.ipynb, parameters: {text}")


def plain(rest: str) -> str:
    return f"uses: script@v1, with: {{image: x, script: y}}, {rest}"


MISTAKES = [
    (plain("retry: -1"), "retry", "must be from 0 to 100", ""),
    (plain("retry: '3'"), "retry", "must be a whole number, not the text `3`", "remove the quotes"),
    (plain("retry: true"), "retry", "must be a whole number", ""),
    (plain("retry: [3]"), "retry", "must be a number or a map", "limit"),
    (plain("retry: {delay: 10}"), "retry.limit", "is required", "after the first"),
    (plain("retry: {limit: 1, delay: 2d}"), "retry.delay", "must be from 0s to 1d", ""),
    (plain("retry: {limit: 1, delays: 2}"), "retry.delays", "unknown key", "did you mean `delay`?"),
    (plain("retries: 3"), "retries", "unknown key", "retry: 3"),
    (plain("cache: no"), "cache", "must be true or false", ""),
    (plain("cache: {}"), "cache", "must be true or false, not a map", ""),
    (plain("matrix: {}"), "matrix", "unknown key", "strategy: {matrix"),
    (deploy("path: /x"), "with.name", "is required", ""),
    (deploy("name: a/b"), "with.name", "cannot be the name of a deployment", ""),
    (deploy("name: a, path: x"), "with.path", "not an absolute path", ""),
    (deploy("name: a, timeout: 0"), "with.timeout", "must be from 1s to 1d", ""),
    (deploy("name: a, image: x"), "with.image", "unknown key", ""),
    (deploy("name: a, spec: x"), "with.spec", "must be a deployment's document", "image"),
    (deploy("name: a, spec: {port: 80}"), "with.spec.image", "is required", ""),
    (deploy("name: a, spec: {image: x, replica: 1}"), "with.spec.replica", "unknown key", ""),
    (deploy("name: a, spec: {image: x, name: b}"), "with.spec.name", "must be `a` here", "remove it"),
    (deploy("name: a, spec: {image: x, kind: notebook}"), "with.spec.kind", "must be `deployment` here", ""),
    (deploy("name: a", "env: {}"), "inputs", "needs an input that is called `model`", "model-id"),
    (deploy("name: a", "inputs: {model: make.outputs.v}, needs: [make]"), "inputs.model", "this is a volume", ""),
    (deploy("name: a", "inputs: {model: {type: string, with: {value: mo1}}}, outputs: {url: {type: string}}"),
     "outputs.url", "one output: `endpoint`", ""),
    (
        deploy("name: a", "inputs: {model: {type: dataset, with: {ref: d}}}, strategy: {matrix: {A: [1, 2]}}"),
        "strategy",
        "all 2 jobs would make the same deployment `a`",
        "choose one",
    ),
    (notebook("kernel: python3"), "with.notebook", "is required", ""),
    (notebook("notebook: a.ipynb"), "with.notebook", "not the absolute path of an .ipynb", ""),
    (notebook("notebook: /inputs/r/a.py"), "with.notebook", "not the absolute path of an .ipynb", ""),
    (notebook("notebook: /inputs/r/../a.ipynb"), "with.notebook", "not the absolute path", ""),
    (notebook("notebook: /inputs/repo/a.ipynb"), "with.notebook", "`repo` is not an input", "inputs: {repo"),
    (notebook("notebook: /inputs/r/a.ipynb, kernel: 'a b'"), "with.kernel", "not the name of a kernel", ""),
    (notebook("notebook: /inputs/r/a.ipynb, image: 'a b'"), "with.image", "not an image reference", ""),
    (notebook("notebook: /inputs/r/a.ipynb", "env: {}"), "", "could hold the executed notebook", "executed"),
    (notebook("notebook: /inputs/r/a.ipynb", "outputs: {a: {type: volume}, b: {type: volume}}"),
     "with.path", "is required", "/outputs/a/executed.ipynb"),
    (notebook("notebook: /inputs/r/a.ipynb, path: /outputs/o"), "with.path", "not the path of an .ipynb file", ""),
    (notebook("notebook: /inputs/r/a.ipynb, path: /outputs/p/a.ipynb"), "with.path", "`p` is not a volume", ""),
    (parameters("[1]"), "with.parameters", "must be a map of names to values", ""),
    (parameters("{a-b: 1}"), "with.parameters.a-b", "not a variable's name", ""),
    (parameters("{class: 1}"), "with.parameters.class", "not a variable's name", "keyword"),
    (parameters("{größe: 1, 1größe: 2}"), "with.parameters[`1größe`]", "not a variable's name", "of Python"),
    (parameters("{ﬁt: 1, fit: 2}"), "with.parameters.fit", "is the same variable as `ﬁt`", "keep one"),
    (parameters("{lr: 1e-4}"), "with.parameters.lr", "as a text and as a number", "0.0001 for the number"),
    (parameters("{a: {b: [x, no]}}"), "with.parameters.a.b[1]", "as a text and as a boolean", ""),
    (parameters("{key: 'secret:A'}"), "with.parameters.key", "stand in the executed notebook", "`env`"),
]  # fmt: skip


def test_a_parameter_may_have_any_name_of_python(load: Load) -> None:
    source = "{uses: script@v1, with: {image: x, script: y}, outputs: {v: {type: volume}}}"
    call = notebook("notebook: /inputs/r/a.ipynb, parameters: {größe: 1, 日本: 2}")
    action = load(f"jobs:\n  make: {source}\n  use: {{{call}}}\n").spec
    assert isinstance(action, Workflow)
    found = action.jobs["use"].action
    assert isinstance(found, NotebookAction)
    assert found.parameters == {"größe": 1, "日本": 2}


@pytest.mark.parametrize(("text", "path", "words", "hint"), MISTAKES)
def test_mistakes(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    make = "make: {uses: script@v1, with: {image: x, script: y}, outputs: {v: {type: volume}}}"
    (found,) = wrong(f"jobs:\n  {make}\n  use: {{{text}}}\n")
    expected = f"jobs.use.{path}" if path else "jobs.use"
    assert (found.path, words in found.message, hint in found.hint) == (expected, True, True), found
    assert found.line == 3
