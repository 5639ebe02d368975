"""A stage's box in the picture of the lifecycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.evaluation.report.changes import changed
from tutelage.evaluation.report.facts import StageFacts
from tutelage.evaluation.report.svg import tag
from tutelage.evaluation.report.text import duration, text_width, wrap

NAME, SMALL, LEADING, PAD = 13.0, 11.0, 15.0, 10.0
SIGN = 18.0  # pixels that the sign of a state takes before the name
DONE = "done"
MODELS = ("model.safetensors", "adapter_model.safetensors")


@dataclass(frozen=True)
class Mark:
    """What a box of a picture to click on has more: where it leads, and its state as a word and as a sign.

    `sign` is the outline of a path in a square of 12 pixels.
    """

    href: str
    state: str
    sign: str


@dataclass(frozen=True)
class Box:
    """A stage as it is drawn: lines are broken already, so nothing runs over."""

    name: Sequence[str]
    lines: Sequence[str]
    time: str
    model: bool
    width: float
    mark: Mark | None = None

    @property
    def height(self) -> float:
        """Height in pixels."""
        extra = 1 if self.time and not self.time_beside else 0
        return 2 * PAD + 17.0 * len(self.name) + LEADING * (len(self.lines) + extra) - 4

    @property
    def time_beside(self) -> bool:
        """Whether the duration has room in the line of the name."""
        room = self.width - 2 * PAD - 8 - (SIGN if self.mark else 0)
        return len(self.name) == 1 and text_width(self.name[0], NAME) + text_width(self.time, SMALL) <= room


def make_box(stage: StageFacts, width: float, mark: Mark | None = None) -> Box:
    """The box of a stage, `width` pixels wide; as high as its text. With a mark it says its state, and is a link."""
    room = width - 2 * PAD
    lines = [line for phrase in changed(stage) for line in wrap(phrase, room, SMALL, 2)]
    if stage.stage != stage.name:
        lines = [*wrap(stage.stage, room, SMALL, 1), *lines]
    if mark is not None and mark.state != DONE:
        lines = [*wrap(mark.state, room, SMALL, 1), *lines]
    model = any(str(output["path"]).endswith(MODELS) for output in stage.outputs)
    name = wrap(stage.name, room - (SIGN if mark else 0), NAME, 2)
    return Box(name, lines[:8], duration(stage.seconds) if stage.seconds else "", model, width, mark)


def draw_box(box: Box, x: float, y: float) -> str:
    """The box with its upper left corner at (x, y)."""
    parts = [tag("rect", x=x, y=y, width=box.width, height=box.height, rx=5, cls="box model" if box.model else "box")]
    base = y + PAD + 9
    shift = 0.0
    if box.mark is not None:
        shift = SIGN
        parts.append(tag("path", d=box.mark.sign, transform=f"translate({x + PAD:.1f} {base - 11:.1f})", cls="sign"))
    for line in box.name:
        parts.append(tag("text", text=line, x=x + PAD + shift, y=base, cls="name"))
        base += 17
    if box.time and box.time_beside:
        parts.append(
            tag("text", text=box.time, x=x + box.width - PAD, y=base - 17, text_anchor="end", cls="small soft")
        )
    elif box.time:
        parts.append(tag("text", text=box.time, x=x + PAD, y=base - 1, cls="small soft"))
        base += LEADING
    for line in box.lines:
        parts.append(tag("text", text=line, x=x + PAD, y=base, cls="small"))
        base += LEADING
    if box.mark is None:
        return "".join(parts)
    if box.mark.state == DONE:  # no line says it; whoever does not see the sign hears it
        parts.append(tag("text", text=DONE, x=x + PAD, y=base, cls="unseen"))
    return tag("a", *parts, href=box.mark.href, cls=f"node {box.mark.state.replace(' ', '-')}")
