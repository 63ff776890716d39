"""`appliance deployment ...` against a real daemon: what a user types from the first revision to the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import RunningDaemon, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

WITHIN_S = 240
SPEC = """
image: appliance/base
name: web
port: 8080
command: [sh, -c, "{program}"]
resources: {{replicas: 1, instanceType: C4}}
healthChecks:
  readiness: {{path: /, port: 8080, periodSeconds: 1}}
"""
SERVER = "mkdir /tmp/w && cd /tmp/w && echo {word} > index.html && exec python3 -m http.server 8080"


def revisions(daemon: RunningDaemon) -> Any:
    return json.loads(daemon.cli("deployment", "history", "web", "-o", "json").stdout)


def test_from_the_first_revision_to_the_way_back(daemon: RunningDaemon, tmp_path: Path, base_image: str) -> None:
    file = tmp_path / "web.yaml"

    def apply(word: str, *options: str) -> str:
        file.write_text(SPEC.format(program=SERVER.format(word=word)))
        done = daemon.cli("apply", "-f", str(file), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def word() -> str:
        return daemon.cli("deployment", "exec", "web", "--", "cat", "/tmp/w/index.html").stdout.strip()

    assert "generation 1 begins" in apply("one", "--dry-run")
    apply("one")
    assert daemon.cli("deployment", "wait", "web").returncode == 0
    assert word() == "one"
    assert "generation 2" in apply("two", "--dry-run")
    apply("two")
    waited = daemon.cli("deployment", "wait", "web")
    assert waited.returncode == 0, waited.stderr
    eventually(lambda: word() == "two", within_s=WITHIN_S, what="the second revision")
    assert "two" in daemon.cli("deployment", "diff", "web").stdout

    back = daemon.cli("deployment", "rollback", "web", "--wait")
    assert back.returncode == 0, back.stderr
    assert "generation 3 brings back generation 1" in back.stderr
    assert word() == "one"
    newest = revisions(daemon)[0]
    assert (newest["cause"], newest["copies"], newest["serving"]) == ("rolled back", 1, True)
    assert newest["image_id"].startswith("sha256:")

    failed = daemon.cli("deployment", "exec", "web", "--", "sh", "-c", "echo said; echo wrong >&2; exit 7")
    assert (failed.returncode, failed.stdout, failed.stderr) == (7, "said\n", "wrong\n")
    shown = daemon.cli("deployment", "show", "web").stdout
    assert "generation 3 (rolled back to 1) serves for" in shown
    assert "requests " in shown
    assert "not known" not in shown
    assert daemon.cli("deployment", "scale", "web", "2", "--wait").returncode == 0
    eventually(lambda: len(daemon.running_containers("web")) == 2, within_s=WITHIN_S, what="two replicas, none leaving")
    listed = daemon.cli("get", "deployments").stdout
    assert "2 of 2 replicas ready" in listed
    assert daemon.cli("deployment", "restart", "web", "--wait").returncode == 0
    assert revisions(daemon)[0]["cause"] == "restarted"
