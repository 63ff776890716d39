"""What `git-checkout@v1` clones, from where and into which directory. Pure.

The address, the ref and the credentials reach the container as files of a private mount: nothing of them is in its
arguments, environment or labels, where every user of the engine could read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from posixpath import normpath
from urllib.parse import urlsplit

from appliance.errors import UsageError
from appliance.spec.models import GitCheckoutAction, Job

IMAGE = "appliance/base"
FILES = "/run/appliance"
"""Where a job's private files are mounted."""
PROTOCOLS = ("https", "http", "git")
DEFAULT_USER = "x-access-token"
"""Goes with a token where no user name is given; the large forges accept any."""

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<plain>[A-Za-z_][A-Za-z0-9_]*))")
_EVENT = re.compile(r"context\.event\.github\.(?P<field>url|ref)")
_SCP = re.compile(r"(?:[^/@\s]+@)?(?P<host>[A-Za-z0-9.-]+):(?P<path>[^\s]+)")


@dataclass(frozen=True, slots=True)
class Checkout:
    url: str
    ref: str
    """Branch, tag or commit; empty: the default branch."""
    target: str
    """Directory in the container."""

    @property
    def origin(self) -> str:
        """`scheme://host[:port]`: the only server that is given the credentials."""
        address = urlsplit(self.url)
        return f"{address.scheme}://{address.netloc.rpartition('@')[2]}"


def checkout_of(action: GitCheckoutAction, job: Job, env: Mapping[str, str], event: Mapping[str, str]) -> Checkout:
    """Raises UsageError that says what is wrong with the field."""
    url = _text("url", action.url, env, event)
    ref = _text("ref", action.ref, env, event) if action.ref else ""
    _check_url(url)
    if ref.startswith("-") or re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.", ref):
        raise UsageError(f"`ref` is not a branch, tag or commit: {ref!r}", hint="such as main, v1.2 or a commit's hash")
    return Checkout(url, ref, _target(action.path, job))


def files_of(checkout: Checkout, username: str, password: str) -> dict[str, str]:
    """File name -> content for the private mount. Raises UsageError for credentials that git cannot carry."""
    files = {"checkout": SCRIPT, "url": checkout.url, "ref": checkout.ref, "target": checkout.target}
    if not username and not password:
        return files
    if re.search(r"[\x00\r\n]", username + password):
        raise UsageError("user name and password must be one line each", hint="set the secret again without a line end")
    return files | {
        "credential": CREDENTIAL,
        "origin": checkout.origin,
        "username": username or DEFAULT_USER,
        "password": password,
    }


def _text(field: str, text: str, env: Mapping[str, str], event: Mapping[str, str]) -> str:
    """The field with an event token or `$NAME` variables of the job replaced."""
    if token := _EVENT.fullmatch(text):
        value = event.get(token["field"], "")
        if not value:
            raise UsageError(
                f"`{field}` is {text}, and this run has no GitHub event",
                hint="write the address itself, or add `context.event.github` to the file",
            )
        return value

    def replace(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        if name not in env:
            raise UsageError(f"`{field}` uses ${name}, which the job's `env` does not set")
        return env[name]

    return _VARIABLE.sub(replace, text)


def _check_url(url: str) -> None:
    if re.search(r"[\x00-\x20\x7f]", url) or url.startswith("-"):
        raise UsageError(f"`url` is not an address: {url!r}")
    address = urlsplit(url)
    if "::" not in url and address.scheme in PROTOCOLS and address.hostname:
        return
    hint = f"use one of {', '.join(f'{protocol}://' for protocol in PROTOCOLS)}"
    scp = _SCP.fullmatch(url)
    if address.scheme == "ssh" or (scp and "::" not in url and not address.scheme):
        host, path = (scp["host"], scp["path"]) if scp and address.scheme != "ssh" else (address.hostname, address.path)
        hint = f"use https://{host}/{str(path).lstrip('/')} with `username` and `password: secret:NAME`"
        raise UsageError(f"`url` needs an SSH key, which a job cannot be given: {url}", hint=hint)
    raise UsageError(f"`url` has no protocol that a job may clone from: {url}", hint=hint)


def _target(path: str, job: Job) -> str:
    if path:
        target = normpath(path)
        if ".." in path.split("/") or not target.startswith("/outputs/"):
            raise UsageError(f"`path` must lie below /outputs: {path!r}", hint="such as /outputs/repo")
        return target
    directories = [name for name, output in job.outputs.items() if output.type != "string"]
    if len(directories) == 1:
        return f"/outputs/{directories[0]}"
    what = (
        f"the job has {len(directories)} outputs ({', '.join(directories)})" if directories else "the job has no output"
    )
    hint = "add `path: /outputs/NAME`" if directories else "add `outputs: {repo: {type: volume}}`"
    raise UsageError(f"{what}, so it is not clear where the repository goes", hint=hint)


# A branch or a tag is cloned without its history; a commit is asked for alone, and where the server refuses that, it
# is looked up in a full clone.
SCRIPT = f"""\
set -eu
export GIT_ALLOW_PROTOCOL={":".join(PROTOCOLS)} GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=advice.detachedHead GIT_CONFIG_VALUE_0=false
cd {FILES}
url=$(cat url) ref=$(cat ref) target=$(cat target)
if [ -e credential ]; then
  export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_1=credential.helper GIT_CONFIG_VALUE_1='!bash {FILES}/credential'
fi
cd /
mkdir -p -- "$target"
if [ -z "$ref" ]; then
  git clone --quiet --depth 1 -- "$url" "$target"
else
  found=$(git ls-remote --heads --tags -- "$url" "refs/heads/$ref" "refs/tags/$ref")
  if [ -n "$found" ]; then
    git clone --quiet --depth 1 --branch "$ref" -- "$url" "$target"
  elif [[ $ref =~ ^[0-9a-fA-F]{{7,64}}$ || $ref == refs/* ]]; then
    git init --quiet -- "$target"
    git -C "$target" remote add origin "$url"
    if git -C "$target" fetch --quiet --depth 1 origin "$ref" 2>/dev/null; then
      git -C "$target" checkout --quiet --detach FETCH_HEAD
    else
      git -C "$target" fetch --quiet --tags origin '+refs/heads/*:refs/remotes/origin/*'
      git -C "$target" checkout --quiet --detach "$ref"
    fi
  else
    echo "no branch or tag named $ref in $url" >&2
    exit 1
  fi
fi
echo "checked out $(git -C "$target" rev-parse HEAD) into $target"
"""

# git asks for credentials of every server it is sent to; only the one that the spec names gets them.
CREDENTIAL = f"""\
[ "$1" = get ] || exit 0
while IFS='=' read -r key value; do
  case $key in protocol) protocol=$value ;; host) host=$value ;; esac
done
[ "$protocol://$host" = "$(cat {FILES}/origin)" ] || exit 0
printf 'username=%s\\npassword=%s\\n' "$(cat {FILES}/username)" "$(cat {FILES}/password)"
"""
