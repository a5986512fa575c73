"""Shipped files: found beside the package or inside it."""

from pathlib import Path

import pytest

import rlcomm
from rlcomm.utils import shipped as module
from rlcomm.utils.errors import UserError
from rlcomm.utils.shipped import given_or_shipped, shipped

CLONE = Path(rlcomm.__file__).resolve().parents[1]


def test_in_a_clone_they_stand_beside_the_package():
    assert shipped("recipes/orchestra") == CLONE / "recipes" / "orchestra"
    assert shipped("launch/zero2.yaml") == CLONE / "launch" / "zero2.yaml"


def test_in_a_wheel_they_are_inside_it_whatever_lies_beside(tmp_path, monkeypatch):
    """Beside an installed package is site-packages, where somebody else's `recipes` may lie."""
    package = tmp_path / "site-packages" / "rlcomm"
    for folder in (package, package.parent):
        (folder / "recipes").mkdir(parents=True)
    monkeypatch.setattr(module, "_PACKAGE", package)
    assert shipped("recipes") == package / "recipes"


def test_what_is_not_shipped_is_one_sentence():
    with pytest.raises(UserError, match=r"recipes/orchestre: is not among the files that rlcomm ships"):
        shipped("recipes/orchestre")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("recipes/orchestra/warmup.yaml", str(CLONE / "recipes" / "orchestra" / "warmup.yaml")),
        ("recipes/mine.yaml", "recipes/mine.yaml"),
        ("pyproject.toml", "pyproject.toml"),
    ],
)
def test_outside_the_clone_a_recipe_keeps_its_name(path, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert given_or_shipped(path) == found


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "zero2.yaml").write_text("mine")
    assert given_or_shipped("launch/zero2.yaml") == "launch/zero2.yaml"
