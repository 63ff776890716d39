"""Environment variables: a map in workflows, a list of name and value in deployments, either in our own kinds."""

from __future__ import annotations

from appliance.spec.fields import Fields, read_text
from appliance.spec.names import ENV_NAME
from appliance.spec.problems import Mark, Problems, quoted
from appliance.spec.refs import check_expression, check_secret
from appliance.spec.tree import Node

_MAP_FORM = "write `env: {NAME: value}`"
_LIST_FORM = "write a list: `- name: NAME` and `value: text`"


def read_env_map(fields: Fields, key: str = "env") -> dict[str, str]:
    found = fields.map(key, what="a map of names to texts", hint=_MAP_FORM)
    if found is None:
        return {}
    env = {}
    for name, path, mark, node in found.entries():
        check_variable(name, mark, path, fields.problems)
        env[name] = read_value_text(node, path, fields.problems)
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
    return read_env_list(fields, key) if node and isinstance(node.value, list) else read_env_map(fields, key)


def read_value_text(node: Node, path: str, problems: Problems) -> str:
    """A variable's value: it may be empty or a secret."""
    value = read_text(node, path, problems, empty=True)
    check_secret(value, node.mark, path, problems)
    check_expression(value, node.mark, path, problems)
    return value


def check_variable(name: str, mark: Mark, path: str, problems: Problems) -> None:
    if not ENV_NAME.fullmatch(name):
        hint = "use letters, digits and `_`, not starting with a digit"
        problems.error(mark, path, f"{quoted(name)} is not a variable's name", hint)
