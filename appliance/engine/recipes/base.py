"""`appliance/base`: what a job script, a notebook server or a small service needs under it."""

from __future__ import annotations

from appliance.engine.recipes.recipe import Recipe

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

BASE = Recipe(
    ref="appliance/base:latest",
    packages=(
        *("bash", "ca-certificates", "curl", "git", "git-lfs", "less", "libstdc++6", "openssh-client", "procps"),
        *("nano", "tmux", "vim-tiny"),  # what a terminal is opened for
    ),
    env={
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # a line that a script prints is a line in its log, at once
        "PIP_ROOT_USER_ACTION": "ignore",
    },
    check=("python3", "-c", "import ssl, sqlite3, venv"),
)

PYTHON = ("python3", "python3-pip", "python3-venv", "python-is-python3")
"""The distribution's Python, where the base brings none of its own."""
