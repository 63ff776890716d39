from __future__ import annotations

import io
import json
import re
from pathlib import Path

from appliance.cli.validate import run


def validate(*files: Path, as_json: bool = False, strict: bool = False) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run([str(file) for file in files], as_json=as_json, strict=strict, out=out, err=err)
    return code, out.getvalue(), err.getvalue()


def test_a_valid_file_says_nothing_on_stdout(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text("image: nginx\n")
    assert validate(file) == (0, "", "1 file checked, 0 invalid\n")


def test_problems_are_one_per_line_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text("image: 5\nprot: 80\n")
    code, out, err = validate(file, tmp_path / "missing.yaml")
    assert code == 1
    assert [re.fullmatch(r"(.+):(\d+):(\d+): .+", line) is not None for line in out.splitlines()] == [True] * 3
    assert f"{file}:2:1: prot: unknown key `prot` (did you mean `port`?)" in out
    assert f"{tmp_path}/missing.yaml:1:1: there is no such file" in out
    assert err == "2 files checked, 2 invalid\n"


def test_warnings_are_narration(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text("image: nginx\nname: a b\n")
    code, out, err = validate(file)
    assert (code, out) == (0, "")
    assert f"warning: {file}:2:7: name" in err


def test_a_folder_stands_for_its_spec_files(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", "c.json", "d.jsonc"):
        (tmp_path / name).write_text('{"image": "x"}')
    for name in (".hidden.yaml", "notes.txt", "e.yaml~"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.yaml").mkdir()
    code, out, err = validate(tmp_path)
    assert code == 0
    assert out == ""
    assert "4 files checked" in err
    empty = tmp_path / "folder.yaml"
    assert validate(empty)[0] == 0
    assert "no spec files" in validate(empty)[2]


def test_json(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("kind: dataset\nname: a\n---\nimage: x\nname: a b\n")
    bad.write_text("jobs: [\n")
    code, out, _ = validate(good, bad, as_json=True)
    assert code == 1
    first, second, third = json.loads(out)
    assert first == {
        "file": str(good),
        "kind": "dataset",
        "name": "a",
        "valid": True,
        "problems": [],
        "warnings": [],
        "extensions": ["kind"],
    }
    assert (second["kind"], second["name"], second["valid"]) == ("deployment", "a-b", True)
    assert second["warnings"][0]["path"] == "name"
    assert (third["kind"], third["name"], third["valid"]) == (None, None, False)
    assert third["problems"][0]["line"] == 2
    assert third["problems"][0]["message"].startswith("not valid YAML")


OURS = """on:
  schedule: [{cron: "0 3 * * *", timezone: UTC}]
concurrency: skip
jobs:
  train:
    uses: script@v1
    with: {image: x, script: y}
    strategy: {matrix: {LR: [1, 2]}}
    retry: 3
    cache: false
"""


def test_strict_refuses_what_gradient_does_not_know(tmp_path: Path) -> None:
    ours, gradients = tmp_path / "ours.yaml", tmp_path / "gradients.yaml"
    ours.write_text(OURS)
    gradients.write_text("jobs: {a: {uses: script@v1, with: {image: x, script: y}}}\n")
    assert validate(ours, gradients)[:2] == (0, "")
    assert validate(gradients, strict=True)[:2] == (0, "")
    code, out, err = validate(ours, strict=True)
    assert code == 1
    assert [line.removeprefix(f"{ours}:").split(": ")[:2] for line in out.splitlines()] == [
        ["2:3", "on.schedule"],
        ["3:1", "concurrency"],
        ["8:5", "jobs.train.strategy"],
        ["9:5", "jobs.train.retry"],
        ["10:5", "jobs.train.cache"],
    ]
    assert out.count("is an extension of the appliance; Gradient refuses it (") == 5
    assert err == "1 file checked, 1 invalid\n"


def test_strict_has_the_same_fields_in_json(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(OURS + "typo: 1\n")
    found = json.loads(validate(file, as_json=True, strict=True)[1])[0]
    assert found["valid"] is False
    assert [set(problem) for problem in found["problems"]] == [
        {"file", "line", "column", "path", "message", "hint"}
    ] * 6
    assert found["problems"][-1]["path"] == "typo"
    assert "one job for each combination" in found["problems"][2]["hint"]
    plain = json.loads(validate(file, as_json=True)[1])[0]
    assert [problem["path"] for problem in plain["problems"]] == ["typo"]
    assert plain["extensions"] == [problem["path"] for problem in found["problems"] if problem["path"] != "typo"]


def test_strict_counts_kinds_and_keys_of_our_own(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "kind: dataset\nname: a\n---\nkind: workflow\nname: b\njobs: {a: {uses: notebook@v1, "
        "with: {notebook: /storage/a.ipynb}, outputs: {o: {type: volume}}}}\n---\nkind: deployment\nname: c\n"
        "image: x\nenv: {A: b}\n---\nkind: repository\nname: d\nurl: https://host/x\n"
    )
    assert validate(file)[0] == 0
    out = validate(file, strict=True)[1]
    assert [line.split(": ")[1] for line in out.splitlines()] == [
        "kind",
        "kind",
        "name",
        "jobs.a.uses",
        "kind",
        "env",
        "kind",
    ]
