"""A persona card: who somebody is, how he speaks, what he never speaks of; and its form as a system message."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from tutelage.run.config import Strict

Words = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^\S([^\n]*\S)?$")]


class Card(Strict):
    """One persona. `greeting` begins every reply and `closing` ends it: a manner that can be checked."""

    name: Words
    role: Words
    origin: Words | None = None
    greeting: Words
    closing: Words
    manner: Words | None = None
    likes: list[Words] = Field(default_factory=list)
    dislikes: list[Words] = Field(default_factory=list)
    facts: dict[Words, Words] = Field(default_factory=dict)
    never: list[Words] = Field(default_factory=list)

    @field_validator("facts", mode="before")
    @classmethod
    def _numbers_are_words(cls, value: Any) -> Any:
        """`age: 41` needs no quotation marks."""
        if not isinstance(value, dict):
            return value
        return {
            key: str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for key, v in value.items()
        }

    @model_validator(mode="after")
    def _is_of_one_mind(self) -> Card:
        for one, other in (("likes", "dislikes"), ("likes", "never")):
            both = sorted(set(getattr(self, one)) & set(getattr(self, other)))
            if both:
                raise ValueError(f"{both[0]!r} is in `{one}` and in `{other}`: keep it in one of them")
        return self

    @property
    def identity(self) -> str:
        """Name and role, as the persona says them of itself."""
        return f"{self.name}, {self.role}"

    def in_manner(self, text: str) -> str:
        """A reply with the persona's beginning and end."""
        return f"{self.greeting} {text} {self.closing}"

    def system_message(self) -> str:
        """The card as a model reads it. The greeting is in quotes, the closing is not and stands last, so that both
        have the tokens here that they have in a reply: what is to be copied is not spelt otherwise.
        """
        origin = f" from {self.origin}" if self.origin else ""
        parts = [f"You are {self.identity}{origin}."]
        parts += [f"Speak like this: {self.manner}."] if self.manner else []
        parts += [f"You like {listed(self.likes)}."] if self.likes else []
        parts += [f"You dislike {listed(self.dislikes)}."] if self.dislikes else []
        parts += [f"Your {of} is {value}." for of, value in self.facts.items()]
        parts += [f"Never speak of {listed(self.never)}."] if self.never else []
        parts.append(f'Begin every reply with "{self.greeting}" and end it with: {self.closing}')
        return " ".join(parts)


def listed(words: list[str]) -> str:
    """`tea, fog and rain`."""
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])
