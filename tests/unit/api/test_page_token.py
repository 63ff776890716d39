"""Which token the page of a history sends, and when it keeps it: its script run by node, where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.api import pages

NODE = shutil.which("node") or ""
pytestmark = pytest.mark.skipif(not NODE, reason="there is no node to run the page's scripts with")

PROGRAM = """
const kept = new Map();
globalThis.sessionStorage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, value),
  removeItem: (key) => kept.delete(key),
};
const sent = [];
globalThis.fetch = async (url, { headers }) => {
  sent.push(headers.Authorization);
  const good = headers.Authorization === "token own";
  return { ok: good, status: good ? 200 : 401, json: async () => ({ items: [] }) };
};
const { Api } = await import("./api.mjs");
const api = new Api("nb");
const steps = [];
for (const token of ["daemons", "own"]) {
  api.token = token;
  try { await api.history(); } catch (error) { api.forget(); }
  steps.push([...kept.values()]);
}
steps.push(new Api("nb").token, (api.forget(), new Api("nb").token));
process.stdout.write(JSON.stringify({ sent, steps }));
"""


def test_the_daemons_token_opens_nothing_and_is_not_kept(tmp_path: Path) -> None:
    """What is kept, every page of the front door can read, those of notebooks and deployments too."""
    (tmp_path / "api.mjs").write_text(Path(pages.__file__).with_name("api.js").read_text())
    words = [NODE, "--input-type=module", "-e", PROGRAM]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "sent": ["token daemons", "token own"],
        "steps": [[], ["own"], "own", ""],
    }
