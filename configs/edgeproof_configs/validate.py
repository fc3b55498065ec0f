"""`python -m edgeproof_configs.validate [FILE ...]`: these, or the shipped recipes, are valid."""

from __future__ import annotations

import sys

from edgeproof_configs.errors import RecipeError
from edgeproof_configs.loader import load_recipe, recipe_names


def main(recipes: list[str]) -> int:
    """Validate recipes and print a line for each; return 2 if any is bad."""
    bad = 0
    for recipe in recipes or recipe_names():
        try:
            load_recipe(recipe, [])
        except RecipeError as error:
            bad += 1
            print("\n".join(error.lines()), file=sys.stderr)
        else:
            print(f"{recipe}: valid")
    return 2 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
