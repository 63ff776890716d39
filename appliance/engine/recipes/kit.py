"""ipykernel with all it needs, as a folder for a Python that is not on this machine: wheels only, so nothing runs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from uv import find_uv_bin

from appliance.engine.recipes import index
from appliance.engine.recipes.build import host_index_settings
from appliance.errors import EngineError

KERNEL = ("ipykernel>=6.20",)
DEADLINE_S = 900
SHOWN = 1500
"""Characters of what uv says, of a failure."""


async def install(target: Path, *, version: str, platform: str) -> None:
    """Into `target`, which is there. `version` is `MAJOR.MINOR`, `platform` one of uv's. Raises EngineError."""
    settings = host_index_settings()
    toml = settings.to_toml()
    for host, inside in settings.mounts.items():  # those are places in a build container
        toml = toml.replace(inside, host)
    env = {**os.environ, **index.proxy_env(os.environ, settings.proxy)}
    if settings.ca_bundle:
        env["SSL_CERT_FILE"] = settings.ca_bundle
    if settings.timeout_s:
        env["UV_HTTP_TIMEOUT"] = str(settings.timeout_s)
    with tempfile.TemporaryDirectory(prefix="appliance-uv-") as folder:
        config = Path(folder) / "uv.toml"
        config.write_text(toml, encoding="utf-8")
        argv = [_uv(), "pip", "install", "--python", sys.executable, "--target", str(target), "--no-cache"]
        argv += ["--python-version", version, "--python-platform", platform, "--only-binary", ":all:", *KERNEL]
        code, said = await _run(argv, {**env, "UV_CONFIG_FILE": str(config), "NO_COLOR": "1"})
    if code:
        raise EngineError(
            f"ipykernel for Python {version} could not be had:\n{index.redact(said)[-SHOWN:].strip()}",
            hint="check this host's network and package settings, or install ipykernel in the image",
        )


async def _run(argv: list[str], env: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            said, _ = await process.communicate()
    except TimeoutError:
        return 1, f"no end within {DEADLINE_S} s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, said.decode("utf-8", "replace")


def _uv() -> str:
    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        hint = "install it beside the daemon: `python -m pip install uv`, or run ./install.sh again"
        raise EngineError(f"uv, which installs Python packages, is missing: {error}", hint=hint) from error
