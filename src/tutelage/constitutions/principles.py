"""A constitution: principles by name. The YAML of ours and the JSON that is published are read into the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from tutelage.constitutions.rules import RULES
from tutelage.errors import DataError
from tutelage.run.config import Strict
from tutelage.run.words import did_you_mean

Words = Annotated[str, Field(min_length=1, pattern=r"\S")]


class Example(Strict):
    """A whole exchange that shows what a principle means."""

    prompt: Words
    response: Words
    critique: Words
    revision: Words


class Principle(Strict):
    """How one principle criticises and revises a reply (`critique`, `revision`), and compares two (`question`).

    `rule` names a check of `constitutions.rules` that stands in for a critic, where the model is too small to be one.
    `weight` is how often the principle is drawn, relative to the others.
    """

    critique: Words | None = None
    revision: Words | None = None
    question: Words | None = None
    rule: str | None = None
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    examples: list[Example] = Field(default_factory=list)

    @field_validator("rule")
    @classmethod
    def _is_known(cls, rule: str | None) -> str | None:
        if rule is not None and rule not in RULES:
            raise ValueError(f"there is no rule {rule!r}; {did_you_mean(rule, list(RULES))}")
        return rule

    @model_validator(mode="after")
    def _says_something(self) -> Principle:
        if (self.critique is None) != (self.revision is None):
            missing = "critique" if self.critique is None else "revision"
            raise ValueError(f"`{missing}` is missing: a critique and its revision go together")
        if self.critique is None and self.question is None:
            raise ValueError("it says nothing: write a `critique` with its `revision`, or a `question`")
        return self


class Constitution(Strict):
    """The top level of a constitution's file."""

    name: str = ""
    description: str = ""
    principles: dict[str, Principle] = Field(min_length=1)


def critiques(principles: Mapping[str, Principle]) -> list[dict[str, Any]]:
    """What critique and revision depend on, as rows: a principle's question is not among it."""
    return [
        {"name": name, **principle.model_dump(exclude={"question"})}
        for name, principle in principles.items()
        if principle.critique is not None
    ]


def questions(principles: Mapping[str, Principle]) -> list[dict[str, Any]]:
    """What comparisons depend on, as rows: name, question, rule and weight alone."""
    return [
        {"name": name, **principle.model_dump(include={"question", "rule", "weight"})}
        for name, principle in principles.items()
        if principle.question is not None
    ]


def conversations(principles: Mapping[str, Principle]) -> list[dict[str, Any]]:
    """Every example's prompt with its revision, for a writer that is to be taught them; the same twice is once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, principle in principles.items():
        for number, example in enumerate(principle.examples, start=1):
            turns = [("user", example.prompt), ("assistant", example.revision)]
            row = {
                "id": f"{name}-{number}",
                "messages": [{"role": role, "content": content} for role, content in turns],
                "source": "constitution",
                "tags": [name],
            }
            found.setdefault((example.prompt, example.revision), row)
    return list(found.values())


def from_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Principle]:
    """The principles of rows that `critiques` or `questions` wrote."""
    return {
        str(row["name"]): Principle.model_validate({key: value for key, value in row.items() if key != "name"})
        for row in rows
    }


def check_rules(principles: Mapping[str, Principle], setting: str) -> None:
    """DataError if a principle has no rule, which `rules` as the value of a stage's `setting` asks for."""
    for name, principle in principles.items():
        if principle.rule is None:
            raise DataError(
                f"principle {name}: rule: it has none, and {setting}: rules asks for one",
                hint=f"give it a rule, leave it out (the constitution's `principles`), or set {setting}: model",
            )
