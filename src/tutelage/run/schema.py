"""JSON Schema of recipes and stages, for editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from tutelage.run.recipe import RecipeHeader, Specs


def stage_schema(kind: str, specs: Specs) -> dict[str, Any]:
    """JSON Schema of one stage's settings."""
    schema = specs[kind].config.model_json_schema()
    schema["description"] = specs[kind].help
    schema["required"] = list(dict.fromkeys(["stage", *schema.get("required", [])]))
    return schema


def recipe_schema(specs: Specs) -> dict[str, Any]:
    """JSON Schema of a whole recipe: a stage's keys follow from its `stage:`."""
    configs = {kind: spec.config for kind, spec in specs.items()}
    references, definitions = models_json_schema([(config, "validation") for config in configs.values()])
    known = definitions.get("$defs", {})
    branches = []
    for kind, config in configs.items():
        reference = references[(config, "validation")]
        own = known[str(reference["$ref"]).rsplit("/", 1)[1]]
        own["required"] = list(dict.fromkeys(["stage", *own.get("required", [])]))
        own["description"] = specs[kind].help
        branches.append({"if": {"properties": {"stage": {"const": kind}}}, "then": reference})
    schema = RecipeHeader.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A Tutelage recipe"
    schema["required"] = ["stages"]
    schema["properties"]["stages"]["additionalProperties"] = {
        "type": "object",
        "required": ["stage"],
        "properties": {"stage": {"enum": list(configs)}},
        "allOf": branches,
    }
    return {**schema, "$defs": {**schema.get("$defs", {}), **known}}
