from __future__ import annotations

from textwrap import dedent

import pytest

from appliance.spec.load import parse
from appliance.spec.models import (
    Alias,
    ContainerAction,
    CreateModelAction,
    GitCheckoutAction,
    Output,
    S3DownloadAction,
    ScriptAction,
    Value,
    Workflow,
)
from tests.unit.spec.conftest import Load, Wrong

WHOLE = """
on:
  github:
    branches: {only: main}
    tags: {include: [v1, v2], ignore: [v0]}
defaults:
  env: {A: "1", TOKEN: secret:TOKEN}
  resources:
    instance-type: P4000
    container-registries: [mine]
  clusterId: clg07azjl
inputs:
  data: {type: dataset, with: {ref: gradient/mnist:latest}}
  note: {type: string, optional: true}
context:
  event: {github: {url: https://host/repo, ref: abc}}
timeout: 3600
jobs:
  clone:
    uses: git-checkout@v1
    with:
      url: context.event.github.url
      ref: context.event.github.ref
      username: me
      password: SECRET:GIT
      path: /outputs/repo/sub
    outputs: {repo: {type: volume}, other: {type: volume}}
  get:
    uses: s3-download@v1
    with: {url: "s3://bucket/path/", access-key: AK, secret-access-key: "secret:S3", region: eu}
    outputs: {files: {type: dataset, with: {id: files}}}
  train:
    uses: script@v1
    with: {image: "python:3.12", script: "train"}
    env: {A: "2", B: ""}
    needs: [clone, get, clone]
    inputs:
      repo: clone.outputs.repo
      data: workflow.inputs.data
      more: {type: dataset, with: {id: "team/set:v3"}}
      text: {type: string, with: {value: ""}}
    outputs:
      model: {type: dataset, with: {ref: team/models}}
      score: {type: string}
    resources: {instance-type: A100}
    timeout: 1.5
  register:
    uses: create-model@v1
    with: {name: best, type: tensorflow}
    needs: [train]
    inputs: {model: train.outputs.model, repo: clone.outputs.repo}
    outputs: {model-id: {type: string}}
  report:
    uses: container@v1
    with: {image: alpine, command: bash, args: [-c, "echo 'x'", ""]}
    needs: [register]
    inputs: {id: register.outputs.model-id}
"""


def workflow(load: Load, text: str) -> Workflow:
    spec = load(text).spec
    assert isinstance(spec, Workflow)
    return spec


def test_the_whole_dialect_becomes_the_model(load: Load) -> None:
    found = load(WHOLE, file="specs/nightly.yaml")
    spec = found.spec
    assert isinstance(spec, Workflow)
    assert (found.kind, found.name, spec.name) == ("workflow", "nightly", "nightly")
    assert list(spec.jobs) == ["clone", "get", "train", "register", "report"]
    assert spec.registries == ("mine",)
    assert spec.timeout_s == 3600
    assert spec.event == {"url": "https://host/repo", "ref": "abc"}
    assert spec.on["github"]["branches"] == {"only": "main"}
    assert spec.inputs == {
        "data": Value(type="dataset", ref="gradient/mnist:latest"),
        "note": Value(type="string", optional=True),
    }
    clone, get, train, register, report = spec.jobs.values()
    assert clone.action == GitCheckoutAction(
        url="context.event.github.url",
        ref="context.event.github.ref",
        username="me",
        password="SECRET:GIT",
        path="/outputs/repo/sub",
    )
    assert clone.machine == "P4000"
    assert clone.env == {"A": "1", "TOKEN": "secret:TOKEN"}
    assert get.action == S3DownloadAction(
        url="s3://bucket/path/", access_key="AK", secret_access_key="secret:S3", region="eu"
    )
    assert get.outputs == {"files": Output(type="dataset", ref="files")}
    assert train.action == ScriptAction(image="python:3.12", script="train")
    assert train.env == {"A": "2", "TOKEN": "secret:TOKEN", "B": ""}
    assert train.needs == ("clone", "get")
    assert train.inputs == {
        "repo": Alias(job="clone", name="repo"),
        "data": Alias(name="data"),
        "more": Value(type="dataset", ref="team/set:v3"),
        "text": Value(type="string", value=""),
    }
    assert train.outputs == {"model": Output(type="dataset", ref="team/models"), "score": Output(type="string")}
    assert (train.machine, train.timeout_s) == ("A100", 1.5)
    assert register.action == CreateModelAction(name="best", type="Tensorflow")
    assert report.action == ContainerAction(image="alpine", command=("bash",), args=("-c", "echo 'x'", ""))


@pytest.mark.parametrize("key", ["on", "'on'", '"on"', "true", "True"])
def test_every_spelling_of_the_trigger(load: Load, key: str) -> None:
    spec = workflow(load, f"{key}: {{github: {{branches: {{only: main}}}}}}\n{MINIMAL}")
    assert spec.on == {"github": {"branches": {"only": "main"}}}


MINIMAL = "jobs: {a: {uses: script@v1, with: {image: x, script: y}}}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("bash", ("bash",)),
        ("python 'a b.py' --x", ("python", "a b.py", "--x")),
        ("cd /x && ./run", ("/bin/sh", "-c", "cd /x && ./run")),
        ("echo $HOME", ("/bin/sh", "-c", "echo $HOME")),
        ("[a, 'b c']", ("a", "b c")),
        ("[]", None),
    ],
)
def test_a_command_is_a_list_or_a_line(load: Load, command: str, words: tuple[str, ...] | None) -> None:
    spec = workflow(load, f"jobs: {{a: {{uses: container@v1, with: {{image: x, command: {command}}}}}}}")
    action = spec.jobs["a"].action
    assert isinstance(action, ContainerAction)
    assert (action.command or None, action.args) == (words, None)


def test_our_own_dialect_has_kind_and_name(load: Load) -> None:
    found = load("kind: workflow\nname: mine\n" + MINIMAL)
    assert (found.kind, found.name) == ("workflow", "mine")


def test_the_output_of_an_indirect_ancestor_may_be_used(load: Load) -> None:
    spec = workflow(
        load,
        """
        jobs:
          a: {uses: script@v1, with: {image: x, script: y}, outputs: {o: {type: volume}}}
          b: {uses: script@v1, with: {image: x, script: y}, needs: [a]}
          c: {uses: script@v1, with: {image: x, script: y}, needs: [b], inputs: {o: a.outputs.o}}
        """,
    )
    assert spec.jobs["c"].inputs == {"o": Alias(job="a", name="o")}


def job(text: str, *, action: str = "uses: script@v1, with: {image: x, script: y}") -> str:
    """A workflow with a producer `make` and a job `use` that has these keys."""
    make = "make: {uses: script@v1, with: {image: x, script: y}, outputs: {o: {type: volume}, s: {type: string}}}"
    return f"jobs:\n  {make}\n  use: {{{action}, {text}}}\n"


TOP = [
    ("name: x\n" + MINIMAL, "name", "unknown key", "kind: workflow"),
    ("env: {A: b}\n" + MINIMAL, "env", "unknown key", "defaults"),
    ("job: {}\n" + MINIMAL, "job", "unknown key", "did you mean `jobs`?"),
    ("defaults: {}\n", "jobs", "is required", ""),
    ("jobs: {}\n", "jobs", "at least one job", ""),
    ("jobs: []\n", "jobs", "must be a map, not a list", ""),
    ("jobs: {a: null}\n", "jobs.a", "must be a map, not empty (null)", ""),
    ("jobs: {'a b': {uses: script@v1, with: {image: x, script: y}}}\n", "jobs[`a b`]", "cannot be the name", "letters"),
    ("jobs: {../x: {uses: script@v1, with: {image: x, script: y}}}\n", "jobs[`../x`]", "cannot be the name", "letters"),
    ("on: {push: {branches: main}}\n" + MINIMAL, "on.push", "unknown key", "github"),
    ("on: push\n" + MINIMAL, "on", "must be a map", ""),
    ("on: {github: {branches: main}}\n" + MINIMAL, "on.github.branches", "must be a map", "only: main"),
    ("on: {github: {branches: {only: [main]}}}\n" + MINIMAL, "on.github.branches.only", "must be a string", ""),
    ("on: {github: {}}\ntrue: {github: {}}\n" + MINIMAL, "true", "is given as `on` already", ""),
    ("defaults: {image: x}\n" + MINIMAL, "defaults.image", "unknown key", "with"),
    (
        "defaults: {resources: {instanceType: x}}\n" + MINIMAL,
        "defaults.resources.instanceType",
        "key",
        "`instance-type`",
    ),
    ("defaults: {env: {A: 1}}\n" + MINIMAL, "defaults.env.A", "not the number `1`", 'quote it: "1"'),
    ("inputs: {a: {type: model}}\n" + MINIMAL, "inputs.a.type", "must be `dataset`, `string` or `volume`", ""),
    ("inputs: {a: {type: string, default: x}}\n" + MINIMAL, "inputs.a.default", "unknown key", "with: {value"),
    ("inputs: {a.b: {type: string}}\n" + MINIMAL, "inputs[`a.b`]", "cannot be the name of an input", ""),
    ("inputs: {a: {type: dataset, with: {ref: ../x}}}\n" + MINIMAL, "inputs.a.with.ref", "not a dataset reference", ""),
    ("context: {event: {gitlab: {}}}\n" + MINIMAL, "context.event.gitlab", "unknown key", "`github`"),
    ("timeout: 0\n" + MINIMAL, "timeout", "more than 0", ""),
    ("timeout: 1h\n" + MINIMAL, "timeout", "must be a number", ""),
]

JOB = [
    ("step: 1", "step", "unknown key", ""),
    ("if: x", "if", "unknown key", "no conditions"),
    ("needs: make", "needs", "must be a list of jobs", "needs: [make]"),
    ("needs: 'a b'", "needs", "must be a list of jobs", "needs: [prepare]"),
    ("needs: [Make]", "needs[0]", "there is no job `Make`", "did you mean `make`?"),
    ("needs: [use]", "needs[0]", "wait for each other: use -> use", ""),
    ("env: [{name: A, value: b}]", "env", "must be a map", "env: {NAME: value}"),
    ("env: {A: no}", "env.A", "can be read as a boolean", 'write "no"'),
    ("env: {A: true}", "env.A", "must be a string, not true", '"true"'),
    ("env: {A: 3.10}", "env.A", "not the number `3.10`", '"3.10"'),
    ("env: {A: 1_000}", "env.A", "`1_000` can be read as a number", 'write "1_000"'),
    ("env: {A: 12:30}", "env.A", "can be read as a number", '"12:30"'),
    ("env: {A: 2021-01-01}", "env.A", "can be read as a date", '"2021-01-01"'),
    ("env: {A: 0b11}", "env.A", "can be read as a number", ""),
    ("env: {A: }", "env.A", "not empty (null)", ""),
    ("env: {1A: x}", "env.1A", "not a variable's name", ""),
    ("env: {GRÜSSE: x}", "env[`GRÜSSE`]", "not a variable's name", "the letters a-z and A-Z"),
    ("outputs: {größe: {type: volume}}", "outputs[`größe`]", "cannot be the name of an output", "a-z and A-Z"),
    ("env: {A=B: x}", "env[`A=B`]", "not a variable's name", ""),
    ("env: {A: 'secret:'}", "env.A", "names no secret", "secret:NAME"),
    ("env: {A: 'secret:a b'}", "env.A", "names no secret", ""),
    ("env: {A: '${{ secrets.X }}'}", "env.A", "GitHub Actions expression", "secret:NAME"),
    ("inputs: {x: make.outputs.o}", "inputs.x", "does not wait for `make`", "needs"),
    ("needs: [make], inputs: {x: make.outputs.p}", "inputs.x", "no output `p`", ""),
    ("needs: [make], inputs: {x: make.output.o}", "inputs.x", "neither an input nor an output", "JOB.outputs.NAME"),
    ("needs: [make], inputs: {x: make.outputs.a.b}", "inputs.x", "neither an input nor an output", ""),
    ("inputs: {x: maker.outputs.o}", "inputs.x", "there is no job `maker`", "did you mean `make`?"),
    ("inputs: {x: workflow.inputs.y}", "inputs.x", "no input `y`", ""),
    ("inputs: {x/../y: {type: string, with: {value: a}}}", "inputs[`x/../y`]", "cannot be the name", ""),
    ("inputs: {x: {type: dataset}}", "inputs.x.with", "is required", "ref"),
    ("inputs: {x: {type: dataset, id: y}}", "inputs.x.id", "unknown key", "with"),
    ("inputs: {x: {type: dataset, with: {ref: a, id: b}}}", "inputs.x.with.id", "named by `ref` already", ""),
    ("inputs: {x: {type: string, with: {value: 5}}}", "inputs.x.with.value", "must be a string", '"5"'),
    ("outputs: {x: make.outputs.o}", "outputs.x", "must be a map such as {type: volume}", ""),
    ("outputs: {x: {type: make.outputs.o}}", "outputs.x.type", "must be `dataset`", ""),
    ("outputs: {x: {type: dataset}}", "outputs.x.with", "is required", "ref"),
    ("outputs: {x: {type: dataset, with: {ref: 'a:b'}}}", "outputs.x.with.ref", "makes a new version", "`:b`"),
    ("outputs: {x: {type: volume, ref: a}}", "outputs.x.ref", "unknown key", "with: {ref: NAME}"),
    ("inputs: {x: {type: alias, with: {value: a}}}", "inputs.x.type", "must be `dataset`", ""),
    ("inputs: {x: {type: alias, with: {ref: make.o}}}", "inputs.x.with.ref", "neither an input nor", "JOB.outputs"),
    ("outputs: {x.y: {type: volume}}", "outputs[`x.y`]", "cannot be the name", ""),
    ("outputs: ", "outputs", "not empty (null)", ""),
    ("resources: {container-registries: [a]}", "resources.container-registries", "unknown key", "defaults"),
    ("timeout: -1", "timeout", "at least 0", ""),
    ("timeout: '3600'", "timeout", "must be a number, not the text `3600`", "remove the quotes"),
    ("timeout: 1e3", "timeout", "must be a number, not the text `1e3`", "write 1000"),
]

ONE = "outputs: {a: {type: volume}}"
TWO = "outputs: {a: {type: volume}, b: {type: dataset, with: {ref: b}}}"
MODEL = "inputs: {model: {type: dataset, with: {ref: a}}}"


def script(parameters: str) -> str:
    return f"uses: script@v1, with: {{{parameters}}}"


def container(parameters: str) -> str:
    return f"uses: container@v1, with: {{image: x, {parameters}}}"


def git(parameters: str, rest: str = ONE) -> str:
    return f"uses: git-checkout@v1, with: {{{parameters}}}, {rest}"


def git_from(parameters: str) -> str:
    return git(f"url: https://a/b, {parameters}")


def s3(parameters: str) -> str:
    return f"uses: s3-download@v1, with: {{access-key: a, {parameters}}}, {ONE}"


def model(kind: str, rest: str) -> str:
    return f"uses: create-model@v1, with: {{name: m, type: {kind}}}, {rest}"


ACTION = [
    ("with: {image: x, script: y}", "uses", "is required", "script@v1"),
    ("uses: script@v1", "with", "is required", ""),
    ("uses: script@v2, with: {}", "uses", "is no action", "did you mean `script@v1`?"),
    ("uses: scirpt@v1", "uses", "is no action", "did you mean `script@v1`?"),
    (script("script: y"), "with.image", "is required", ""),
    (script("image: x"), "with.script", "is required", ""),
    (script("image: 'a b', script: y"), "with.image", "not an image reference", ""),
    (script("image: '--help', script: y"), "with.image", "not an image reference", ""),
    (script("image: x, script: y, password: z"), "with.password", "unknown key", "registries"),
    (container("args: [a, ~]"), "with.args[1]", "must be a string, not empty (null)", ""),
    (container("args: [a, 5]"), "with.args[1]", "must be a string", '"5"'),
    (container("args: a"), "with.args", "must be a list of strings", ""),
    (container("command: 'a \"b'"), "with.command", "without its end", ""),
    (git("url: https://a/b", "env: {}"), "", "no volume or dataset output", "outputs: {repo"),
    (git("url: https://a/b", TWO), "with.path", "is required", "/outputs/a"),
    (git_from("path: /outputs/b"), "with.path", "`b` is not a volume", ""),
    (git_from("path: /outputs/a/../../etc"), "with.path", "not below /outputs", ""),
    (git_from("path: a"), "with.path", "not below /outputs", ""),
    (git("url: context.github.url"), "with.url", "no value of the event", "context.event.github.url"),
    (git("url: 'ext::sh -c id'"), "with.url", "not a git address", ""),
    (git("url: '--upload-pack=x'"), "with.url", "not a git address", ""),
    (git_from("ref: -x"), "with.ref", "not a branch", ""),
    (git_from("ref: a..b"), "with.ref", "not a branch", ""),
    (git_from("ref: 1.0"), "with.ref", "must be a string", '"1.0"'),
    (git_from("password: hunter2"), "with.password", "must be a secret", "secret:NAME"),
    (s3("url: http://x, secret-access-key: 'secret:a'"), "with.url", "not a bucket", ""),
    (s3("url: 's3://x', secret-access-key: b"), "with.secret-access-key", "must be a secret", ""),
    (model("Custom", "env: {}"), "inputs", "an input that is called `model`", ""),
    (model("Keras", MODEL), "with.type", "Tensorflow, ONNX or Custom", ""),
    (model("ONNX", f"{MODEL}, outputs: {{id: {{type: string}}}}"), "outputs.id", "`model-id`", ""),
    (model("ONNX", "needs: [make], inputs: {model: make.outputs.o}"), "inputs.model", "this is a volume", "dataset"),
]


@pytest.mark.parametrize(("text", "path", "words", "hint"), TOP)
def test_top_level_mistakes(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    (found,) = wrong(text)
    assert (found.path, words in found.message, hint in found.hint) == (path, True, True), found
    assert found.line


@pytest.mark.parametrize(("text", "path", "words", "hint"), JOB)
def test_mistakes_in_a_job(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    (found,) = wrong(job(text))
    assert (found.path, words in found.message, hint in found.hint) == (f"jobs.use.{path}", True, True), found
    assert found.line == 3


@pytest.mark.parametrize(("action", "path", "words", "hint"), ACTION)
def test_mistakes_in_an_action(wrong: Wrong, action: str, path: str, words: str, hint: str) -> None:
    found = wrong(job("timeout: 1", action=action))[0]
    expected = f"jobs.use.{path}" if path else "jobs.use"
    assert (found.path, words in found.message, hint in found.hint) == (expected, True, True), found


def test_an_expression_in_a_script_is_only_suspicious(load: Load) -> None:
    found = load("jobs: {a: {uses: script@v1, with: {image: x, script: 'echo ${{ github.sha }}'}}}")
    assert [warning.path for warning in found.warnings] == ["jobs.a.with.script"]


def test_a_circle_is_named_once(wrong: Wrong) -> None:
    (found,) = wrong(
        """
        jobs:
          a: {uses: script@v1, with: {image: x, script: y}, needs: [c]}
          b: {uses: script@v1, with: {image: x, script: y}, needs: [a]}
          c: {uses: script@v1, with: {image: x, script: y}, needs: [b]}
          d: {uses: script@v1, with: {image: x, script: y}, needs: [c]}
        """
    )
    assert "a -> c -> b -> a" in found.message
    assert found.line == 4
    assert found.path == "jobs.b.needs[0]"


YEAR_2021 = """
jobs:
  clone:
    uses: git-checkout@v1
    with: {url: https://host/repo}
    inputs: {repo: {type: volume}}
  train:
    uses: script@v1
    with: {image: x, script: y}
    needs: [clone]
    inputs: {repo: {type: volume}, data: {type: dataset, with: {id: set}}}
"""


def test_the_dialect_of_2021_is_read_with_a_warning_that_shows_the_form_of_today(load: Load) -> None:
    found = load(YEAR_2021)
    assert isinstance(found.spec, Workflow)
    assert found.spec.jobs["clone"].inputs == {"repo": Value(type="volume")}
    assert found.spec.jobs["train"].inputs["repo"] == Value(type="volume")
    checkout, consumer = found.warnings
    assert "write `outputs: {repo: {type: volume}}` instead" in checkout.hint
    assert "`repo: clone.outputs.repo` here" in consumer.hint
    assert (checkout.line, consumer.line) == (6, 11)


def test_a_volume_that_nobody_else_names_is_said_to_be_empty(load: Load) -> None:
    found = load(f"jobs: {{a: {{{script('image: x, script: y')}, inputs: {{v: {{type: volume}}}}}}}}")
    assert ["so it is empty" in warning.message for warning in found.warnings] == [True]


@pytest.mark.parametrize(
    ("parameters", "rest", "path", "words"),
    [
        ("", "inputs: {a: {type: volume}, b: {type: volume}}", "jobs.a.with.path", "is required"),
        ("path: /inputs/b", "inputs: {a: {type: volume}, c: {type: string, with: {value: x}}}", "jobs.a.with.path", ""),
        ("path: /outputs/a", "inputs: {a: {type: volume}}", "jobs.a.with.path", "`a` is not a volume"),
        ("path: /inputs/a/../b", "inputs: {a: {type: volume}}", "jobs.a.with.path", "not below /outputs"),
    ],
)
def test_where_a_checkout_of_2021_goes(wrong: Wrong, parameters: str, rest: str, path: str, words: str) -> None:
    (found,) = wrong(f"jobs: {{a: {{uses: git-checkout@v1, with: {{url: https://h/r, {parameters}}}, {rest}}}}}")
    assert (found.path, words in found.message) == (path, True), found


def test_a_checkout_of_2021_may_name_its_volume(load: Load) -> None:
    two = "inputs: {a: {type: volume}, b: {type: volume}}"
    text = f"jobs: {{a: {{uses: git-checkout@v1, with: {{url: https://h/r, path: /inputs/b/sub}}, {two}}}}}"
    action = workflow(load, text).jobs["a"].action
    assert isinstance(action, GitCheckoutAction)
    assert action.path == "/inputs/b/sub"


def test_a_workflow_may_have_a_volume_for_its_jobs(load: Load) -> None:
    found = load(
        "inputs: {v: {type: volume}}\n"
        "jobs: {a: {uses: script@v1, with: {image: x, script: y}, inputs: {w: workflow.inputs.v}}}"
    )
    assert isinstance(found.spec, Workflow)
    assert found.spec.inputs == {"v": Value(type="volume")}
    assert ["shared by the jobs" in warning.message for warning in found.warnings] == [True]


def test_the_long_form_of_an_alias(load: Load) -> None:
    spec = workflow(load, job("needs: [make], inputs: {x: {type: alias, with: {ref: make.outputs.o}}}"))
    assert spec.jobs["use"].inputs == {"x": Alias(job="make", name="o")}


def test_what_is_text_for_gradients_own_client_is_text(load: Load) -> None:
    text = "jobs: {a: {uses: container@v1, with: {image: x, args: [--lr, 1e-4, 089]}, env: {LR: 1e-4}}}"
    found = load(text)
    assert isinstance(found.spec, Workflow)
    action = found.spec.jobs["a"].action
    assert isinstance(action, ContainerAction)
    assert action.args == ("--lr", "1e-4", "089")
    assert found.spec.jobs["a"].env == {"LR": "1e-4"}
    assert parse(found.kind, found.name, found.document) == found.spec


def test_a_volume_output_with_parameters_is_only_odd(load: Load) -> None:
    found = load(job("outputs: {x: {type: volume, with: {ref: a}}}"))
    assert [(warning.path, "is ignored" in warning.message) for warning in found.warnings] == [
        ("jobs.use.outputs.x.with", True)
    ]


def test_windows_line_ends_a_byte_order_mark_anchors_and_merge_keys(load: Load) -> None:
    text = """
    defaults: {env: &env {A: "1"}}
    jobs:
      a: &base
        uses: script@v1
        with: &with {image: x, script: "y"}
        env: {<<: *env, B: "2"}
      b:
        <<: *base
        with: {<<: *with, script: |-
          one
          two
          }
    """.replace("script: |-\n          one\n          two\n          }", 'script: "one\\ntwo"}')
    spec = workflow(load, "\ufeff" + dedent(text).replace("\n", "\r\n"))
    assert spec.jobs["a"].env == {"A": "1", "B": "2"}
    assert spec.jobs["b"].action == ScriptAction(image="x", script="one\ntwo")


def test_a_block_has_no_carriage_returns(load: Load) -> None:
    text = "jobs:\n  a:\n    uses: script@v1\n    with:\n      image: x\n      script: |\n        one\n        two\n"
    action = workflow(load, text.replace("\n", "\r\n")).jobs["a"].action
    assert action == ScriptAction(image="x", script="one\ntwo\n")


def test_all_problems_at_once_from_top_to_bottom(wrong: Wrong) -> None:
    found = wrong(
        """
        name: x
        jobs:
          a:
            use: script@v1
            with: {image: 5}
            needs: b
        """
    )
    assert [(problem.line, problem.path) for problem in found] == [
        (2, "name"),
        (5, "jobs.a.uses"),
        (5, "jobs.a.use"),
        (7, "jobs.a.needs"),
    ]


def test_very_many_problems_are_cut_and_counted(wrong: Wrong) -> None:
    found = wrong("jobs:\n" + "".join(f"  j{n}: 1\n" for n in range(500)))
    assert len(found) == 101
    assert "and 400 more problems" in found[-1].message
