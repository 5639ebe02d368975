"""`tutelage schema`: JSON Schema for editors."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tutelage.commands.common import examples, stages
from tutelage.errors import RecipeError
from tutelage.run.words import did_you_mean

EXAMPLES = examples(
    "tutelage schema pretrain              every key of one stage",
    "tutelage schema > recipe.schema.json  for an editor; a recipe's first line is then",
    "    # yaml-language-server: $schema=recipe.schema.json",
)


def command(
    stage: Annotated[str | None, typer.Argument(help="A type of stage; a whole recipe if not given.")] = None,
    recipe: Annotated[bool, typer.Option("--recipe", help="The schema of a whole recipe (the default).")] = False,
) -> None:
    """Print the JSON Schema of a recipe, or of one type of stage."""
    from tutelage.run.schema import recipe_schema, stage_schema

    specs = stages()
    if stage is not None and recipe:
        raise RecipeError("schema: give --recipe or a STAGE, not both")
    if stage is not None and stage not in specs:
        raise RecipeError(f"unknown type of stage {stage!r}; {did_you_mean(stage, list(specs))}")
    schema = recipe_schema(specs) if stage is None else stage_schema(stage, specs)
    typer.echo(json.dumps(schema, indent=2, ensure_ascii=False))
