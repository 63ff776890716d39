"""What a container gets so that Jupyter is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import EngineError
from appliance.notebooks import jupyter
from appliance.notebooks.kit import fitting
from appliance.notebooks.kit.fitting import INSIDE, LABEL, LAUNCH, PACKAGES, ROOT, SHARE, Layout
from appliance.notebooks.kit.found import Found
from appliance.notebooks.kit.unpacking import layout

LAYOUT = Layout("usr/lib/x/ld-linux-x.so.2", "usr/bin/python3", ("usr/lib/x", "usr/lib"))
FOUND = Found(python="/venv/bin/python", version=(3, 13), libc="glibc", glibc=(2, 36), machine="x86_64", prefix="/venv")


def fit(found: Found, packages: Path | None = None) -> fitting.Fit:
    return fitting.fit(found, LAYOUT, root=Path("/kit/root-1"), packages=packages, share=Path("/kit/share-2"))


def test_the_server_is_the_kits_and_the_cells_are_the_images() -> None:
    found = fit(FOUND, Path("/kit/packages-3"))
    assert {mount.target: str(mount.source) for mount in found.mounts} == {
        ROOT: "/kit/root-1",
        SHARE: "/kit/share-2",
        PACKAGES: "/kit/packages-3",
    }
    assert all(mount.read_only for mount in found.mounts)
    command = found.command("nb")
    assert command[:2] == [f"{ROOT}/usr/lib/x/ld-linux-x.so.2", "--argv0"]
    assert command[command.index("--library-path") + 1] == f"{ROOT}/usr/lib/x:{ROOT}/usr/lib"
    assert command[-len(jupyter.command("nb")) - 1 :] == ["-I", "-m", "jupyterlab", *jupyter.command("nb")[2:]]
    assert found.env["JUPYTER_CONFIG_PATH"].startswith(f"{jupyter.CONFIG_DIR}:{SHARE}:")
    assert found.env["JUPYTER_PATH"].startswith(f"{SHARE}:/venv/share/jupyter:")
    assert not {"PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"} & set(found.env)
    assert found.labels == {LABEL: "packages-3,root-1,share-2"}
    assert not found.degraded
    kernel = json.loads(fitting.files(FOUND, LAYOUT)["kernels/python3/kernel.json"])
    assert kernel["argv"] == ["/venv/bin/python", f"{SHARE}/{LAUNCH}", "-f", "{connection_file}"]


def test_cells_run_in_the_kits_where_the_image_can_run_none() -> None:
    found = fit(Found(shell="/bin/sh"))
    assert found.degraded
    assert "no Python" in found.words
    files = fitting.files(Found(shell="/bin/sh"), LAYOUT)
    argv = json.loads(files["kernels/python3/kernel.json"])["argv"]
    assert argv[0] == f"{ROOT}/{LAYOUT.loader}"
    assert argv[-4:] == ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
    settings = json.loads(files["jupyter_server_config.json"])
    assert settings["ServerApp"]["terminado_settings"]["shell_command"] == ["/bin/sh"]


def test_the_folder_is_named_after_what_is_in_it() -> None:
    names = {fitting.name_of(fitting.files(found, LAYOUT)) for found in (FOUND, FOUND, replace(FOUND, python="/p"))}
    assert len(names) == 2


def test_the_launcher_knows_where_its_packages_are() -> None:
    assert f'"{PACKAGES}"' in (INSIDE / LAUNCH).read_text()


@pytest.mark.parametrize("old", [False, True])
def test_the_launcher_puts_the_images_packages_first_unless_they_do_not_go(old: bool, tmp_path: Path) -> None:
    ours, image, here = tmp_path / "ours", tmp_path / "image", tmp_path / "here"
    (ours / "ipykernel").mkdir(parents=True)
    (ours / "ipykernel" / "__init__.py").touch()
    (ours / "ipykernel" / "kernelapp.py").write_text(
        "import sys\nfrom traits import new\ndef launch_new_instance(): print(new, sys.argv[1:], sys.path[0])\n"
    )
    (ours / "traits.py").write_text("new = 'ours'\n")
    image.mkdir()
    (image / "traits.py").write_text("old = 1\n" if old else "new = 'theirs'\n")
    here.mkdir()
    (here / LAUNCH).write_text((INSIDE / LAUNCH).read_text().replace(PACKAGES, str(ours)))
    argv = [sys.executable, "-S", str(here / LAUNCH), "-f", "file"]
    done = subprocess.run(argv, env={"PYTHONPATH": str(image)}, capture_output=True, text=True, check=True)
    first = ours if old else image
    assert done.stdout.split() == ["ours" if old else "theirs", "['-f',", "'file']", str(first)]
    assert ("no ipykernel yet" in done.stderr) is old


def test_the_layout_of_a_root(tmp_path: Path) -> None:
    (tmp_path / "usr" / "lib" / "aarch64-linux-gnu").mkdir(parents=True)
    (tmp_path / "usr" / "lib" / "aarch64-linux-gnu" / "ld-linux-aarch64.so.1").touch()
    (tmp_path / "usr" / "bin").mkdir()
    (tmp_path / "usr" / "bin" / "python3").touch()
    folder = "usr/lib/aarch64-linux-gnu"
    found = layout(tmp_path, "/usr/bin/python3")
    assert found == Layout(f"{folder}/ld-linux-aarch64.so.1", "usr/bin/python3", (folder, "usr/lib", "usr/local/lib"))
    for python in ("", "usr/bin/python3", "/usr/bin/python4"):
        with pytest.raises(EngineError):
            layout(tmp_path, python)
