"""Environment variables: a map in workflows, a list of name and value in deployments, either in our own kinds."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.spec.fields import Fields, read_text
from appliance.spec.names import ENV_NAME
from appliance.spec.problems import NOWHERE, Mark, Problems, quoted
from appliance.spec.refs import check_expression, check_secret
from appliance.spec.tree import Node

MOST_VARIABLES = 500
"""Of one job."""
MOST_TOGETHER = 512_000
"""Of all jobs of a workflow, each of which holds those of `defaults` too."""
MOST_BYTES = 1 << 20
"""Of one job: names and values together. The kernel takes 2 MiB, arguments included."""
CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Numbers of cards, as somebody counts them who has all of a machine."""
LEASE_VARIABLES = frozenset({"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", CUDA_VARIABLE})
"""By these NVIDIA's runtime and CUDA go in a container; here a lease decides."""
_LEASED = "a container sees the GPUs that it is given, and no others"
_CHOOSE = "remove it; the machine type, or a notebook's `gpus`, says how many"
_MAP_FORM = "write `env: {NAME: value}`"
_LIST_FORM = "write a list: `- name: NAME` and `value: text`"


def read_env_map(fields: Fields, key: str = "env") -> dict[str, str]:
    """Of a workflow. Files made for Gradient choose cards by number there: that is left out, with a warning."""
    return _read_map(fields, key, gradient=True)


def _read_map(fields: Fields, key: str, *, gradient: bool) -> dict[str, str]:
    found = fields.map(key, what="a map of names to texts", hint=_MAP_FORM)
    if found is None:
        return {}
    env = {}
    for name, path, mark, node in found.entries():
        value = read_value_text(node, path, fields.problems)
        if gradient and name == CUDA_VARIABLE:
            fields.problems.warn(mark, path, f"is left out: {_LEASED}", "remove it, or set it in the command")
            continue
        check_variable(name, mark, path, fields.problems)
        env[name] = value
    return env


def read_env_list(fields: Fields, key: str = "env") -> dict[str, str]:
    env: dict[str, str] = {}
    for path, node in fields.items(key, what="a list of name and value", hint=_LIST_FORM):
        item = Fields(node, path, fields.problems, what="a map of name and value")
        name = item.text("name", required=True)
        found = item.node("value", required=True)
        value = read_value_text(found, item.at("value"), fields.problems) if found else ""
        if name:
            check_variable(name, item.mark, item.at("name"), fields.problems)
        if name in env:
            item.error("name", f"the variable {quoted(name)} is given already")
        item.close()
        env[name] = value
    return env


def read_env(fields: Fields, key: str = "env") -> dict[str, str]:
    """Either form."""
    node = fields.node(key)
    return (
        read_env_list(fields, key) if node and isinstance(node.value, list) else _read_map(fields, key, gradient=False)
    )


def size_of(env: Mapping[str, str]) -> int:
    """Bytes of all names and values."""
    return sum(len(name.encode()) + len(value.encode("utf-8", "surrogatepass")) for name, value in env.items())


def check_amount(count: int, size: int, mark: Mark, path: str, problems: Problems) -> bool:
    """Note a job with too many variables, or too large ones; `size` in bytes. False: it has."""
    if count > MOST_VARIABLES:
        message = f"makes {count:,} variables, and a job may have {MOST_VARIABLES}"
        problems.error(mark, path, message, "put them into a file, such as one of a dataset")
    elif size > MOST_BYTES:
        message = f"makes variables of {size / 2**20:.1f} MiB, and those of a job may have {MOST_BYTES >> 20} MiB"
        problems.error(mark, path, message, "put the text into a file, such as one of a dataset")
    else:
        return True
    return False


def check_together(count: int, mark: Mark, path: str, problems: Problems) -> bool:
    """Note a workflow whose jobs up to this one have too many variables. False: they have."""
    if count > MOST_TOGETHER:
        message = (
            f"is one job too many: all jobs together may have {MOST_TOGETHER:,} variables, those of `defaults` in each"
        )
        problems.error(mark, path, message, "write fewer variables, or split the workflow")
    return count <= MOST_TOGETHER


def read_value_text(node: Node, path: str, problems: Problems) -> str:
    """A variable's value: it may be empty or a secret."""
    value = read_text(node, path, problems, empty=True)
    check_secret(value, node.mark, path, problems)
    check_expression(value, node.mark, path, problems)
    return value


def check_variable(name: str, mark: Mark, path: str, problems: Problems) -> None:
    if not ENV_NAME.fullmatch(name):
        hint = "use the letters a-z and A-Z, digits and `_`, not starting with a digit"
        problems.error(mark, path, f"{quoted(name)} is not a variable's name", hint)
    elif name in LEASE_VARIABLES and mark != NOWHERE:
        # a stored document is older than this rule: what it says of GPUs loses when its container is made
        problems.error(mark, path, f"is not yours to set: {_LEASED}", _CHOOSE)
