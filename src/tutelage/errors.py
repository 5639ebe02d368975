"""Every error that a user can cause, as one tree.

    TutelageError
    ├── RecipeError     a recipe that cannot be run: unknown key, wrong type, dangling or cyclic reference
    ├── DataError       data that cannot be used: missing, empty, a row that fits no format, no trained token
    │   ├── NotFoundError  asked for by a name or a number that there is not
    │   └── OutdatedError  a change of something that has changed meanwhile
    ├── ArtifactError   a run folder or artifact that is damaged, half-written, or of another recipe or type
    ├── TrainingError   training that must not go on: a loss that is not finite, a prompt longer than the context
    └── ResourceError   the machine: disk full, a package or a program that is not there
        └── NotOfferedError  a server that does not do what it is asked for

The message names the file, line, field and value; `hint` says what to do next. Bugs are assertions, never these.
"""


class TutelageError(Exception):
    """Something that the user can mend; printed without a traceback."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class RecipeError(TutelageError):
    """A recipe that cannot be run as written."""


class DataError(TutelageError):
    """Data that cannot be read or must not be trained on."""


class NotFoundError(DataError):
    """There is nothing of this name or number, or it is somebody else's."""


class OutdatedError(DataError):
    """What is to be changed has been changed meanwhile."""


class ArtifactError(TutelageError):
    """A run folder or an artifact that is damaged, half-written, or not what was asked for."""


class TrainingError(TutelageError):
    """Training that must not go on."""


class ResourceError(TutelageError):
    """The machine cannot do what was asked: disk full, a missing program or package."""


class NotOfferedError(ResourceError):
    """A server does not do such a thing."""
