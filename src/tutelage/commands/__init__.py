"""The commands, one small module each: `command` (a function that Typer reads) and `EXAMPLES` (the end of its help)."""
