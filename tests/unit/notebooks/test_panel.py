"""The extension of JupyterLab as files: what JupyterLab reads before it loads it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.notebooks import jupyter, panel


def test_jupyterlab_is_told_which_script_to_load() -> None:
    files = panel.files()
    about = json.loads(files["labextensions/@appliance/history/package.json"])
    load = about["jupyterlab"]["_build"]["load"]
    script = files[f"labextensions/@appliance/history/{load}"]
    assert about["name"] == panel.EXTENSION
    assert hashlib.sha256(script.encode()).hexdigest()[:16] in load, "a browser keeps a script of the same name"
    assert '"@appliance/history"' in script
    assert "innerHTML" not in script


def test_it_goes_with_the_settings_of_every_session() -> None:
    files = jupyter.config_files("nb")
    assert panel.files().items() <= files.items()
    (folder,) = json.loads(files["jupyter_server_config.json"])["LabServerApp"]["extra_labextensions_path"]
    assert folder == f"{jupyter.CONFIG_DIR}/labextensions"


NODE = shutil.which("node") or ""
STAGE = """
const fs = require("fs");
const [base, has] = process.argv.slice(2);
globalThis.window = globalThis;
globalThis.document = { body: { dataset: {} }, addEventListener() {}, hidden: true };
globalThis.addEventListener = () => {};
globalThis.setInterval = () => 0;
globalThis.MutationObserver = class { observe() {} };
class Widget {
  constructor() { this.node = { style: {} }; this.title = {}; }
  addClass() {}
}
const modules = {
  "@lumino/widgets": { Widget },
  "@jupyterlab/coreutils": { PageConfig: { getBaseUrl: () => base, getToken: () => "t" } },
};
const scope = {};
for (const name of has ? Object.keys(modules) : []) scope[name] = { "4.0.0": { get: async () => () => modules[name] } };
new Function(fs.readFileSync("panel.js", "utf8"))();
const container = window._JUPYTERLAB["@appliance/history"];
container.init(scope);
(async () => {
  const plugin = (await container.get("./extension"))().default;
  (await container.get("./style"))();
  const added = [];
  const shell = { add: (widget, area) => added.push([widget.id, area]), currentWidget: null, widgets: () => [] };
  const commands = { addCommand: (name) => added.push([name]) };
  plugin.activate({ shell, commands, restored: Promise.resolve() });
  console.log(JSON.stringify({ id: plugin.id, added, optional: plugin.optional, requires: plugin.requires ?? [] }));
})();
"""
OURS = "http://x/notebooks/nb/"


@pytest.mark.skipif(not NODE, reason="there is no node to run the script with")
@pytest.mark.parametrize(
    ("base", "has", "wanted"),
    [
        (OURS, "all", [["appliance-history", "right"], ["appliance:history"]]),
        (OURS, "", []),
        ("http://x/", "all", []),
        ("http://x/user/a/notebooks/", "all", []),
    ],
    ids=["ours", "a JupyterLab that shares nothing", "no front door", "another hub"],
)
def test_it_adds_itself_where_it_can_and_breaks_nothing_elsewhere(
    tmp_path: Path, base: str, has: str, wanted: list[list[str]]
) -> None:
    (script,) = (text for name, text in panel.files().items() if name.endswith(".js"))
    (tmp_path / "panel.js").write_text(script)
    (tmp_path / "stage.cjs").write_text(STAGE)
    command = [NODE, "stage.cjs", base, has]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["id"], said["added"]) == ("@appliance/history:plugin", wanted)
    assert (said["optional"], said["requires"]) == ([], []), "nothing that a JupyterLab may lack is required"


RUNS = """
const executor = { runCell: async ({ cell }) => (ran.push([cell.name, waiting.ready]), true) };
const ran = [], prompts = [];
const cell = (name, type) => ({ name, model: { type }, isDisposed: false, setPrompt: (text) => prompts.push(text) });
let there;
const waiting = { isReady: false, ready: new Promise((resolve) => (there = resolve)) };
modules["@jupyterlab/notebook"] = { INotebookCellExecutor: "executor" };
scope["@jupyterlab/notebook"] = { "4.0.0": { get: async () => () => modules["@jupyterlab/notebook"] } };
container.init(scope);
(async () => {
  const plugin = (await container.get("./extension"))().default;
  const shell = { add() {}, currentWidget: null, widgets: () => [] };
  plugin.activate({ shell, commands: { addCommand() {} }, restored: Promise.resolve() }, executor);
  const done = Promise.all(["code", "markdown", "code"].map((type, at) =>
    executor.runCell({ cell: cell(`${type} ${at}`, type), sessionContext: waiting })));
  await new Promise((resolve) => setTimeout(resolve, 50));
  const before = ran.map(([name]) => name);
  there();
  await done;
  console.log(JSON.stringify({ before, after: ran.map(([name]) => name), prompts }));
  process.exit();
})();
"""


@pytest.mark.skipif(not NODE, reason="there is no node to run the script with")
def test_a_cell_that_is_run_before_its_kernel_is_there_runs_then(tmp_path: Path) -> None:
    """The executor for cells that run on the server drops it otherwise."""
    (script,) = (text for name, text in panel.files().items() if name.endswith(".js"))
    (tmp_path / "panel.js").write_text(script)
    (tmp_path / "stage.cjs").write_text(STAGE.partition("(async")[0] + RUNS)
    done = subprocess.run([NODE, "stage.cjs", OURS, "all"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["before"] == ["markdown 1"]
    assert said["after"] == ["markdown 1", "code 0", "code 2"]
    assert said["prompts"] == ["*", "*", "", ""]
