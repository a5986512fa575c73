"""Recipes of the reference as the tests need them."""

from pathlib import Path
from typing import Any

from rlcomm.config.reference import ReferenceRecipe


def recipe(model: str | Path, out: str | Path, **keys: Any) -> ReferenceRecipe:
    """Of a model and an output file; the rows are given apart."""
    return ReferenceRecipe(dataset="rows.jsonl", model_name_or_path=str(model), output=str(out), **keys)
