"""Makes the built-in images from their recipes."""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from uv import find_uv_bin

from appliance.engine.client import Client
from appliance.engine.pull import inspect_image, pull
from appliance.engine.recipes import index
from appliance.engine.recipes.base import PATH, PYTHON
from appliance.engine.recipes.bootstrap import CLEAN_STEP, bootstrap
from appliance.engine.recipes.recipe import Progress, Recipe
from appliance.engine.recipes.workbench import Workbench, open_bench
from appliance.errors import EngineError, UsageError

REGISTRY_PATIENCE_S = 15.0
_RESOLVED = re.compile(r"Resolved (\d+) packages")

CACHE = "/var/cache/appliance-build"
"""Inside the bench and emptied there, so that uv can link files instead of copying them."""
APT_STEP = Path(__file__).with_name("apt.sh").read_text(encoding="utf-8")
TRIM_STEP = Path(__file__).with_name("trim.sh").read_text(encoding="utf-8")
BASE_STEPS = (APT_STEP, CLEAN_STEP.read_text(encoding="utf-8"))
TOP_STEPS = (TRIM_STEP,)
"""What an image is made by; part of its digest, as what it is made of is."""


class Builder:
    """`scratch` is this appliance's own folder; it holds build-time files only and is emptied by every build."""

    def __init__(self, client: Client, *, instance: str, base_image: str, scratch: Path) -> None:
        self._client = client
        self._instance = instance
        self._base_image = base_image
        self._scratch = scratch

    async def from_parent(self, recipe: Recipe, parent: str, digest: str, progress: Progress) -> str:
        """Python packages and files on top of an image of ours; the id of the tagged result."""
        settings = host_index_settings()
        scratch = self._fresh(recipe)
        mounts = _lay_out(scratch, settings)
        try:
            async with open_bench(
                self._client, image=parent, name=self._bench(recipe), scratch=scratch, mounts=mounts
            ) as bench:
                await _install(bench, recipe, settings, progress)
                progress(f"{recipe.name}: storing the image (3/3)")
                await bench.put(recipe.files, recipe.folders)
                await bench.run(f"{recipe.name}: self check", recipe.check)
                return await bench.commit(recipe.ref, recipe.config(digest))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    async def base(self, recipe: Recipe, digest: str, progress: Progress) -> str:
        """On top of the setting base_image where a registry answers, else from the distribution's packages."""
        try:
            await self._fetch_base_image(recipe, progress)
            return await self._dress(recipe, digest, progress)
        except EngineError as error:
            why = f"{self._base_image}: {_first_line(error.message)}"
        progress(f"{recipe.name}: not from a registry ({why})")
        try:
            return await self._from_distribution(recipe, digest, progress)
        except EngineError as error:
            raise EngineError(f"{error.message}\n{why}", where=recipe.name, hint=error.hint) from error

    async def _fetch_base_image(self, recipe: Recipe, progress: Progress) -> None:
        if await inspect_image(self._client, self._base_image) is None:
            progress(f"{recipe.name}: asking for {self._base_image} ({REGISTRY_PATIENCE_S:.0f} s at most)")
            await pull(self._client, self._base_image, progress, patience_s=REGISTRY_PATIENCE_S)

    async def _dress(self, recipe: Recipe, digest: str, progress: Progress) -> str:
        """Adds what the recipe names to a Debian-based image, by its own package manager."""
        settings = host_index_settings()
        scratch = self._fresh(recipe)
        _lay_out(scratch, settings)
        env = index.proxy_env(os.environ, settings.proxy) | {
            "APT_FLAGS": "-qq -o Acquire::Languages=none",
            "PYTHON_PACKAGES": " ".join(PYTHON),
        }
        if settings.ca_bundle:
            env["APT_FLAGS"] += " -o Acquire::https::CaInfo=/mnt/ca.crt"
        try:
            async with open_bench(
                self._client, image=self._base_image, name=self._bench(recipe), scratch=scratch, mounts={}
            ) as bench:
                progress(f"{recipe.name}: adding {', '.join(recipe.packages)} to {self._base_image}")
                argv = ["sh", "-c", APT_STEP, "apt", *recipe.packages]
                await bench.run(f"{recipe.name}: apt-get", argv, env=env)
                await bench.run(f"{recipe.name}: self check", recipe.check)
                progress(f"{recipe.name}: storing the image")
                return await bench.commit(recipe.ref, recipe.config(digest))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    async def _from_distribution(self, recipe: Recipe, digest: str, progress: Progress) -> str:
        scratch = self._fresh(recipe)
        progress(f"{recipe.name}: building from this distribution's packages, about a minute")
        try:
            made = await bootstrap(
                self._client,
                (*recipe.packages, *PYTHON),
                [f"ENV PATH={PATH}", *recipe.changes(digest)],
                scratch=scratch,
                progress=lambda step: progress(f"{recipe.name}: {step}"),
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        repository, _, tag = recipe.ref.rpartition(":")
        await self._client.call(lambda api: api.tag(made, repository, tag, force=True))
        return made

    def _fresh(self, recipe: Recipe) -> Path:
        folder = self._scratch / recipe.name.replace("/", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        return folder

    def _bench(self, recipe: Recipe) -> str:
        return f"appliance-{self._instance}-build-{recipe.name.rpartition('/')[2]}"


async def _install(bench: Workbench, recipe: Recipe, settings: index.IndexSettings, progress: Progress) -> None:
    if not recipe.python:
        return
    progress(f"{recipe.name}: choosing packages (1/3)")

    def tell(line: str) -> None:
        if match := _RESOLVED.match(line):
            progress(f"{recipe.name}: installing {match.group(1)} packages (2/3)")

    # Wheels only: no code of a package runs while the host's settings are in reach.
    flags = ["--system", "--break-system-packages", "--only-binary=:all:", "--link-mode=hardlink"]
    argv = ["/mnt/uv", "pip", "install", *flags, *recipe.python]
    await bench.run(f"{recipe.name}: Python packages", argv, env=_uv_env(settings), on_line=tell)
    if recipe.without:
        flags = ["--system", "--break-system-packages"]
        argv = ["/mnt/uv", "pip", "uninstall", *flags, *recipe.without]
        await bench.run(f"{recipe.name}: packages that are left out", argv, env=_uv_env(settings))
    await bench.run(f"{recipe.name}: trim", ["sh", "-c", TRIM_STEP, "trim", *recipe.trim], env={"CACHE": CACHE})


def host_index_settings() -> index.IndexSettings:
    """Raises UsageError where a configuration file of pip or uv cannot be read."""
    home = Path(os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)
    try:
        pip_conf, uv_toml = index.read_pip_conf(os.environ, home), index.read_uv_toml(os.environ, home)
    except (ValueError, OSError, index.ConfigError) as error:
        raise UsageError(f"this host's package settings cannot be read: {error}", hint="correct that file") from error
    return index.host_settings(os.environ, pip_conf, uv_toml, exists=os.path.exists)


def _lay_out(scratch: Path, settings: index.IndexSettings) -> Mapping[str, str]:
    """Put the build-time files into the scratch folder; returns what is to be mounted beside them."""
    (scratch / "uv.toml").write_text(settings.to_toml())
    if settings.ca_bundle:
        shutil.copyfile(settings.ca_bundle, scratch / "ca.crt")
    netrc = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    if netrc.is_file():
        shutil.copyfile(netrc, scratch / "netrc")
    (scratch / "uv").touch()
    for target in settings.mounts.values():
        (scratch / Path(target).relative_to("/mnt")).mkdir(parents=True)
    try:
        return {find_uv_bin(): "/mnt/uv", **settings.mounts}
    except FileNotFoundError as error:
        hint = "install it beside the daemon: `python -m pip install uv`, or run ./install.sh again"
        raise EngineError(f"uv, which installs Python packages, is missing: {error}", hint=hint) from error


def _uv_env(settings: index.IndexSettings) -> dict[str, str]:
    env = index.proxy_env(os.environ, settings.proxy)
    env |= {"UV_CONFIG_FILE": "/mnt/uv.toml", "UV_CACHE_DIR": CACHE, "NETRC": "/mnt/netrc", "TMPDIR": "/mnt"}
    if settings.ca_bundle:
        env["SSL_CERT_FILE"] = "/mnt/ca.crt"
    if settings.timeout_s:
        env["UV_HTTP_TIMEOUT"] = str(settings.timeout_s)
    return env


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0][:160]
