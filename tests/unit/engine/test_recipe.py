from __future__ import annotations

import json
from dataclasses import replace

import pytest

from appliance.engine.images import RECIPES, Images, with_tag
from appliance.engine.recipes.base import BASE
from appliance.engine.recipes.notebook import NOTEBOOK
from appliance.engine.recipes.recipe import RECIPE_LABEL, Recipe

RECIPE = Recipe(ref="a/b:latest", packages=("bash",), env={"A": 'x "y" $Z'}, ports=(8888,), workdir="/w")


def test_a_recipe_has_a_digest_of_its_own() -> None:
    digests = {
        RECIPE.digest(),
        RECIPE.digest("salt"),
        replace(RECIPE, packages=("bash", "git")).digest(),
        replace(RECIPE, files={"/a": "b"}).digest(),
        replace(RECIPE, env={}).digest(),
    }
    assert len(digests) == 5
    assert RECIPE.digest("salt") == replace(RECIPE).digest("salt")


def test_the_order_of_names_does_not_matter() -> None:
    one, other = replace(RECIPE, env={"A": "1", "B": "2"}), replace(RECIPE, env={"B": "2", "A": "1"})
    assert one.digest() == other.digest()


def test_an_import_and_a_commit_say_the_same() -> None:
    assert RECIPE.config("d1") == {
        "Env": ['A=x "y" $Z'],
        "Cmd": ["bash"],
        "WorkingDir": "/w",
        "ExposedPorts": {"8888/tcp": {}},
        "Labels": {RECIPE_LABEL: "d1"},
    }
    assert RECIPE.changes("d1") == [
        'ENV A="x \\"y\\" $Z"',
        "EXPOSE 8888",
        'CMD ["bash"]',
        "WORKDIR /w",
        "LABEL dev.appliance.recipe=d1",
    ]


def test_a_built_in_name_may_lack_its_tag() -> None:
    assert with_tag("appliance/base") == "appliance/base:latest"
    assert with_tag("appliance/base:old") == "appliance/base:old"
    assert with_tag("python") == "python"


def test_every_recipe_stands_on_one_that_exists() -> None:
    assert {recipe.parent for recipe in RECIPES.values()} <= {"", *RECIPES}
    assert all(recipe.check for recipe in RECIPES.values())


def test_the_notebook_image_keeps_output_when_the_tab_is_closed() -> None:
    server = json.loads(NOTEBOOK.files["/etc/jupyter/jupyter_server_config.json"])
    assert server["YDocExtension"]["document_cleanup_delay"] is None
    assert any(name.startswith("jupyter-server-nbmodel") for name in NOTEBOOK.python)


def test_the_notebook_image_asks_no_strangers() -> None:
    lab = json.loads(NOTEBOOK.files["/etc/jupyter/jupyter_lab_config.json"])["LabApp"]
    assert (lab["news_url"], lab["extension_manager"]) == (None, "readonly")


@pytest.mark.parametrize("recipe", [BASE, NOTEBOOK])
def test_no_recipe_knows_a_host(recipe: Recipe) -> None:
    assert "://" not in json.dumps(recipe.config("")) + "".join(recipe.files.values())


def test_another_base_image_makes_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Images, "__init__", lambda self, base: setattr(self, "_base_image", base))
    one, other = Images("a:1"), Images("b:1")  # type: ignore[arg-type, call-arg]
    assert one.digest(BASE) != other.digest(BASE)
    assert one.digest(NOTEBOOK) != other.digest(NOTEBOOK)
