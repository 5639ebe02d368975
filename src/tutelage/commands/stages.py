"""`tutelage stages`: the types of stage."""

from __future__ import annotations

from tutelage.commands import common

EXAMPLES = common.examples("tutelage stages", "tutelage schema sft     every key of one of them")


def command() -> None:
    """List the types of stage: what each takes, gives and does."""
    from tutelage.run.references import accepted_types

    rows = []
    for name, spec in common.stages().items():
        takes = ", ".join(
            f"{field}: {'|'.join(types) if len(types) <= 3 else 'any'}"
            for field, types in accepted_types(spec.config).items()
        )
        gives = ", ".join(f"{output}: {type_}" if output else str(type_) for output, type_ in spec.outputs.items())
        rows.append([name, takes, gives, spec.help])
    common.print_table(["stage", "takes", "gives", ""], rows)
