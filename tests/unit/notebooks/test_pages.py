"""The address of one notebook in a repository."""

from __future__ import annotations

import pytest

from appliance.notebooks.pages import Page, parse


@pytest.mark.parametrize(
    ("url", "ref", "page"),
    [
        ("https://h/o/r/blob/main/a.ipynb", "", Page("https://h/o/r", "main", "a.ipynb")),
        ("https://h/o/r/blob/main/d/e%20f.ipynb", "", Page("https://h/o/r", "main", "d/e f.ipynb")),
        ("https://h/o/r/-/blob/main/a.ipynb?x=1#c", "", Page("https://h/o/r", "main", "a.ipynb")),
        ("https://u@h:8443/g/o/r/blob/v1/a.ipynb", "", Page("https://u@h:8443/g/o/r", "v1", "a.ipynb")),
        ("https://h/o/r/blob/f/x/a.ipynb", "f/x", Page("https://h/o/r", "f/x", "a.ipynb")),
        ("https://h/o/r/blob/main/a.ipynb", "v2", Page("https://h/o/r", "v2", "a.ipynb")),
        ("https://h/o/r", "", None),
        ("https://h/o/r.git", "main", None),
        ("https://h/o/r/blob/main/a.py", "", None),
        ("https://h/blob/main/a.ipynb", "", None),
    ],
)
def test_pages(url: str, ref: str, page: Page | None) -> None:
    assert parse(url, ref) == page
