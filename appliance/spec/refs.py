"""The small grammars inside a spec's texts: aliases, dataset references, secrets, images, git addresses."""

from __future__ import annotations

import re

from appliance.spec import address
from appliance.spec.models import Alias
from appliance.spec.names import NAME, PART
from appliance.spec.problems import Mark, Problems, quoted

_DATASET = re.compile(rf"(?:{NAME.pattern}/)?{NAME.pattern}(?P<version>:{NAME.pattern})?", re.ASCII)
_WORKFLOW_ALIAS = re.compile(rf"workflow\.inputs\.({PART.pattern})", re.ASCII)
_JOB_ALIAS = re.compile(rf"({PART.pattern})\.outputs\.({PART.pattern})", re.ASCII)
_SECRET = re.compile(r"secret:(.*)", re.IGNORECASE | re.DOTALL)
SECRET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_IMAGE = re.compile(r"[^\s-]\S{0,511}")
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]")
_GIT_REF = re.compile(r"[^-\s\x00-\x20\x7f~^:?*\[\\][^\s\x00-\x20\x7f~^:?*\[\\]*")
_PATTERN = re.compile(r"[^-!\s\x00-\x20\x7f~^:][^\s\x00-\x20\x7f~^:]{0,254}")
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)

EVENT_URL = "context.event.github.url"
EVENT_REF = "context.event.github.ref"

ALIAS_RULE = "write `workflow.inputs.NAME` or `JOB.outputs.NAME`"
DATASET_RULE = "write NAME, NAME:VERSION or NAMESPACE/NAME; the letters a-z and A-Z, digits, `.`, `_` and `-`"


def parse_alias(text: str) -> Alias | None:
    """None: the text is no alias."""
    if match := _WORKFLOW_ALIAS.fullmatch(text):
        return Alias(name=match[1])
    if match := _JOB_ALIAS.fullmatch(text):
        return Alias(job=match[1], name=match[2])
    return None


def check_dataset(text: str, mark: Mark, path: str, problems: Problems, *, output: bool = False) -> None:
    """`output`: it names the dataset that gets a new version, so it has no version itself."""
    match = _DATASET.fullmatch(text)
    if match is None:
        if text:  # an empty or missing one is noted already
            problems.error(mark, path, f"{quoted(text)} is not a dataset reference", DATASET_RULE)
    elif output and match["version"]:
        problems.error(mark, path, "an output makes a new version and names none", f"remove {quoted(match['version'])}")


def check_dataset_name(text: str, mark: Mark, path: str, problems: Problems) -> None:
    """A dataset as such, not one of its versions."""
    match = _DATASET.fullmatch(text)
    if match is None:
        if text:
            problems.error(mark, path, f"{quoted(text)} is not a dataset's name", "write NAME or NAMESPACE/NAME")
    elif match["version"]:
        problems.error(
            mark, path, "any new version is meant, and none can be named", f"remove {quoted(match['version'])}"
        )


def check_pattern(text: str, mark: Mark, path: str, problems: Problems) -> None:
    """The name of a branch or tag, with `*`, `**`, `?` and `[...]` as in GitHub Actions."""
    if not text:
        return
    if text.startswith(("refs/heads/", "refs/tags/")):
        short = text.removeprefix("refs/heads/").removeprefix("refs/tags/")
        problems.error(mark, path, f"{quoted(text)} is a full reference", f"write {short or 'its name'}")
    elif text.startswith("!"):
        problems.error(
            mark, path, f"{quoted(text)} excludes, which is said by `ignore`", f"write `ignore: [{text[1:]}]`"
        )
    elif "${{" in text or not _PATTERN.fullmatch(text) or ".." in text or not text.isprintable():
        hint = "such as main, 'release/*' or 'v[0-9]*'"
        problems.error(mark, path, f"{quoted(text)} is not a name or pattern of branches or tags", hint)
    elif not _brackets_closed(text):
        problems.error(mark, path, f"{quoted(text)} has a `[` without its `]`", "such as 'v[0-9]*'")


def _brackets_closed(text: str) -> bool:
    rest = re.sub(r"\[[^\[\]]+\]", "", text)
    return "[" not in rest and "]" not in rest


def check_secret(text: str, mark: Mark, path: str, problems: Problems, *, required: bool = False) -> None:
    """A text that says `secret:` must name one. `required`: no other text will do, such as for a password."""
    match = _SECRET.fullmatch(text)
    if match is None:
        if required and text:
            hint = "`appliance secret set NAME`, then write secret:NAME here"
            problems.error(mark, path, "must be a secret, not the value itself", hint)
    elif not SECRET_NAME.fullmatch(match[1]):
        hint = "write secret:NAME without spaces; the letters a-z and A-Z, digits, `_`, `.` and `-`"
        problems.error(mark, path, f"{quoted(text)} names no secret", hint)


def check_image(text: str, mark: Mark, path: str, problems: Problems) -> None:
    if text and (not _IMAGE.fullmatch(text) or not text.isprintable()):
        problems.error(mark, path, f"{quoted(text)} is not an image reference", "such as python:3.12-slim")


def check_expression(text: str, mark: Mark, path: str, problems: Problems, *, script: bool = False) -> None:
    """Gradient has no `${{ }}`; in a script it is only suspicious, because a script may write such a file."""
    found = _EXPRESSION.search(text)
    if found is None:
        return
    message = f"{quoted(found[0])} is a GitHub Actions expression; Gradient has none and passes it on as it stands"
    hint = "write secret:NAME for a secret, $NAME for a variable of `env`"
    if script:
        problems.warn(mark, path, message, hint)
    else:
        problems.error(mark, path, message, hint)


def check_git_url(text: str, mark: Mark, path: str, problems: Problems) -> None:
    if not text or text == EVENT_URL or _is_token(text, EVENT_URL, mark, path, problems):
        return
    if _VARIABLE.search(text) and not text.startswith("-") and text.isprintable():
        return
    found = address.parse(text)
    if not found or found.way not in ("http", "git") or not found.path.strip("/") or not text.isprintable():
        problems.error(mark, path, f"{quoted(text)} is not a git address over https", f"https://..., or {EVENT_URL}")
    elif found.password:
        problems.warn(mark, path, "has a password in it, which everyone who reads the file sees", "use `password`")


def check_git_ref(text: str, mark: Mark, path: str, problems: Problems) -> None:
    if not text or text == EVENT_REF or _is_token(text, EVENT_REF, mark, path, problems):
        return
    if not _VARIABLE.search(text) and (not _GIT_REF.fullmatch(text) or ".." in text):
        problems.error(mark, path, f"{quoted(text)} is not a branch, tag or commit", "such as main or v1.2")


def _is_token(text: str, token: str, mark: Mark, path: str, problems: Problems) -> bool:
    if not text.startswith("context."):
        return False
    hint = problems.nearest(text, [token]) or f"write {token}"
    problems.error(mark, path, f"{quoted(text)} is no value of the event", hint)
    return True
