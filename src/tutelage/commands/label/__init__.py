"""`tutelage label`: preferences in, out, and what they say."""

from __future__ import annotations

from types import ModuleType

from tutelage.commands.common import examples
from tutelage.commands.label import export, import_labels, judge, stats

COMMANDS: dict[str, ModuleType] = {"import": import_labels, "export": export, "stats": stats, "judge": judge}
HELP = "Preferences of people: into the store of a run, out of it, and what they say."
EXAMPLES = examples(
    "tutelage label import quickstart replies       the replies of a stage, to be ranked",
    "tutelage label stats quickstart                agreement, position bias, the board",
    "tutelage label export quickstart --to prefs.jsonl",
)
