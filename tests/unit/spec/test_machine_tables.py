"""Tables `[machines.NAME]` of config.toml, and what a wrong one says."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import UsageError
from appliance.settings import load
from appliance.spec.machine_tables import KEYS, read_machines
from appliance.spec.machines import Shape

GIB = 2**30
WHERE = "/home/me/config.toml"


def read(text: str, default: str = "") -> dict[str, Shape]:
    return read_machines(tomllib.loads(text).get("machines", {}), WHERE, default=default)


def test_a_table_is_a_shape_under_all_its_names() -> None:
    found = read("""
        [machines.small]
        mig = "1g.10gb"
        also = ["P4000", "Free-GPU"]
        cpus = 4
        memory = "16G"
        shm = "2GiB"
        priority = -10
        preemptible = true
        [machines."GPU+"]
        model = "*A100*"
        least = "40GB"
        gpus = 2
        [machines.plain]
    """)
    small = Shape(gpus=1, mig="1g.10gb", cpus=4, memory=16 * GIB, shm=2 * GIB, preemptible=True, priority=-10)
    assert found == {
        "small": small,
        "P4000": small,
        "Free-GPU": small,
        "GPU+": Shape(gpus=2, model="*A100*", least=40 * GIB),
        "plain": Shape(),
    }


def test_what_is_said_of_a_gpu_asks_for_one() -> None:
    assert read('[machines.a]\nshare = "10GiB"')["a"] == Shape(gpus=1, share=10 * GIB)
    assert read('[machines.a]\nleast = "10Gi"')["a"].gpus == 1


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ("gpu = 1", "gpu", "unknown key"),
        ("gpus = -1", "gpus", "must be a whole number from 0 to 64"),
        ("gpus = 65", "gpus", "must be a whole number from 0 to 64"),
        ("gpus = true", "gpus", "must be a whole number"),
        ('gpus = "1"', "gpus", "must be a whole number"),
        ('mig = "10gb"', "mig", "is no profile"),
        ('mig = ""', "mig", "must be a text"),
        ('mig = "1g.10gb"\ngpus = 2', "gpus", "one instance only"),
        ('mig = "1g.10gb"\nshare = "1G"', "share", "a part already"),
        ('share = "1G"\ngpus = 2', "gpus", "a share is of one GPU"),
        ('least = "8G"\ngpus = 0', "least", "gpus is 0"),
        ('share = "8 apples"', "share", "must be a size"),
        ("memory = 8000000000", "memory", "must be a size"),
        ('memory = "1K"', "memory", "must be from 16M to 1024T"),
        ('shm = "1K"', "shm", "must be from 1M to 1024T"),
        ("cpus = 0", "cpus", "must be from 0.01"),
        ("cpus = nan", "cpus", "must be a number"),
        ('cpus = "4"', "cpus", "must be a number"),
        ("priority = 101", "priority", "from -100 to 100"),
        ("preemptible = 1", "preemptible", "must be true or false"),
        ('also = "P4000"', "also", "must be a list of names"),
        ("also = [1]", "also", "must be a list of names"),
        ('also = ["../x"]', "also", "cannot be a machine type's name"),
        ('also = ["a"]', "also", "is the name of a machine type already"),
        (f'model = "{"x" * 101}"', "model", "is longer than 100"),
        ("shm = 1979-05-27", "shm", "must be a size"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(table: str, key: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(f"[machines.a]\n{table}\n")
    assert caught.value.message.startswith(f"machines.a.{key}: ")
    assert message in caught.value.message
    assert (caught.value.where, bool(caught.value.hint)) == (WHERE, True)


def test_a_name_stands_for_one_machine_type() -> None:
    with pytest.raises(UsageError, match=r"machines\.b\.also: `P4000` is the name of a machine type already"):
        read('[machines.a]\nalso = ["P4000"]\n[machines.b]\nalso = ["P4000"]')


@pytest.mark.parametrize("text", ["machines = 1", "machines = []", '[[machines]]\nname = "a"'])
def test_no_tables_are_told_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UsageError, match="machines must be tables"):
        load({}, home=tmp_path)


def test_a_wrong_table_does_not_stop_who_only_asks(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("port = 8000\n[machines]\na = 1\n")
    settings = load({}, home=tmp_path)
    assert settings.port == 8000
    with pytest.raises(UsageError, match=r"machines\.a: must be a table"):
        read_machines(settings.machines, str(settings.config_file))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "\\u001b[2J", "x" * 64])
def test_a_table_has_the_name_of_a_machine_type(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a machine type's name") as caught:
        read(f'[machines."{name}"]')
    assert "\x1b" not in str(caught.value)


def test_the_default_has_to_be_known() -> None:
    assert read("", default="P4000") == {}
    assert read("[machines.a]", default="a") == {"a": Shape()}
    with pytest.raises(UsageError, match="setting machine: `ours` is no machine type"):
        read("[machines.a]", default="ours")


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["16G", "1g.10gb"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=10), st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=4) | ANYTHING))
def test_whatever_stands_there_is_read_or_refused_in_words(tables: dict[str, Any]) -> None:
    found, refused = {}, None
    try:
        found = read_machines(tables, WHERE)
    except UsageError as error:
        refused = error
    if refused is None:
        assert set(tables) <= set(found)
    else:
        assert refused.message.isprintable()
        assert refused.hint
