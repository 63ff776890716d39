from __future__ import annotations

import io
import json
import re
from pathlib import Path

from appliance.cli.validate import run


def validate(*files: Path, as_json: bool = False) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run([str(file) for file in files], as_json=as_json, out=out, err=err)
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
    }
    assert (second["kind"], second["name"], second["valid"]) == ("deployment", "a-b", True)
    assert second["warnings"][0]["path"] == "name"
    assert (third["kind"], third["name"], third["valid"]) == (None, None, False)
    assert third["problems"][0]["line"] == 2
    assert third["problems"][0]["message"].startswith("not valid YAML")
