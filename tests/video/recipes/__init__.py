"""Recipes of small video files, from which the conformance of every decoder is judged.

A recipe is data: a command of ffmpeg, or an edit in Python, and what it begins with. `recipes`
lists all of them, always in the same order, and `make` writes the file of one.
"""

from functools import cache

from tests.video.recipes.base import Recipe, RecipeError, fingerprint, make
from tests.video.recipes.contents import contents
from tests.video.recipes.damage import damages
from tests.video.recipes.encodings import encodings
from tests.video.recipes.handling import handled

__all__ = ["Recipe", "RecipeError", "fingerprint", "make", "recipes"]


@cache
def recipes() -> dict[str, Recipe]:
    """All recipes by their names."""
    every = [*encodings(), *handled(), *contents(), *damages()]
    found = {recipe.name: recipe for recipe in every}
    assert len(found) == len(every), "two recipes have one name"
    return found
