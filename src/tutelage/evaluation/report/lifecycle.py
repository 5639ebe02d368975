"""The picture of the lifecycle: the recipe's graph, with what came out of every stage.

A long recipe is set like music: layers run from left to right and go on in the next band, where every line that
comes over from the band before says where it comes from. On a narrow page layers run from top to bottom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType

from tutelage.evaluation.report.boxes import Box, Mark, draw_box, make_box
from tutelage.evaluation.report.facts import StageFacts
from tutelage.evaluation.report.layered import Cell, Edge, Layout, lay_out
from tutelage.evaluation.report.svg import document, tag
from tutelage.evaluation.report.text import wrap

LANE, GAP, COLUMN_GAP, BAND_GAP = 18.0, 14.0, 46.0, 34.0
NONE: Mapping[str, Mark] = MappingProxyType({})
ENTRY = 118.0  # where lines come in from the band before


def wide(stages: Sequence[StageFacts], width: float, columns: int, marks: Mapping[str, Mark] = NONE) -> str:
    """Bands of at most `columns` layers, from left to right, all but the last of one length.

    Stages with a mark are links and show their state.
    """
    edges = _edges(stages)
    depth = len(lay_out(*_graph(stages, edges), lane=LANE, gap=GAP, most=4).layers)
    bands = max(1, ceil(depth / columns))
    per_band = ceil(depth / bands)
    room = width - (ENTRY if bands > 1 else 4) - COLUMN_GAP * per_band
    box_width = min(230.0, room / per_band)
    boxes = {stage.name: make_box(stage, box_width, marks.get(stage.name)) for stage in stages}
    sizes = {name: box.height for name, box in boxes.items()}
    layout = lay_out([s.name for s in stages], edges, sizes, lane=LANE, gap=GAP, most=4)
    return _Bands(layout, boxes, width, per_band, box_width).draw()


def tall(stages: Sequence[StageFacts], width: float = 340.0, marks: Mapping[str, Mark] = NONE) -> str:
    """Layers from top to bottom, two boxes side by side at most."""
    edges = _edges(stages)
    rough = lay_out(*_graph(stages, edges), lane=6, gap=8, most=2)
    box_width = 200.0
    for row in rough.layers:
        lanes = sum(rough.is_lane(cell) for cell in row)
        own = len(row) - lanes
        box_width = min(box_width, (width - 4 - 14 * lanes - 8 * (own - 1)) / own)
    box_width = max(box_width, 128.0)
    boxes = {stage.name: make_box(stage, box_width, marks.get(stage.name)) for stage in stages}
    layout = lay_out([s.name for s in stages], edges, dict.fromkeys(boxes, box_width), lane=6, gap=8, most=2)
    return _tower(layout, boxes, width)


def _graph(stages: Sequence[StageFacts], edges: Sequence[Edge]) -> tuple[list[str], Sequence[Edge], dict[str, float]]:
    names = [stage.name for stage in stages]
    return names, edges, dict.fromkeys(names, 1.0)


def _edges(stages: Sequence[StageFacts]) -> list[Edge]:
    drawn = {stage.name for stage in stages}
    pairs = ((given.stage, stage.name) for stage in stages for given in stage.inputs if given.stage in drawn)
    return list(dict.fromkeys(pairs))


def _across(x1: float, y1: float, x2: float, y2: float, model: bool) -> str:
    bend = (x2 - x1) / 2
    d = f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    return tag("path", d=d, cls="edge model" if model else "edge")


class _Bands:
    """Layers cut into bands; a cell's place across the layers is kept within its band."""

    def __init__(self, layout: Layout, boxes: dict[str, Box], width: float, per_band: int, box_width: float) -> None:
        self.layout, self.boxes, self.width = layout, boxes, width
        self.per_band, self.box_width = per_band, box_width
        self.shift: list[float] = []
        top = 6.0
        for start in range(0, len(layout.layers), per_band):
            # lines that come in stand where they left the band before
            rows = layout.layers[max(0, start - 1) : start + per_band]
            cells = [cell for row in rows for cell in row if cell[1] >= start or self._goes_on(cell)]
            low = min(layout.centre[cell] - self._half(cell, start) for cell in cells)
            high = max(layout.centre[cell] + self._half(cell, start) for cell in cells)
            self.shift.append(top - low)
            top += high - low + BAND_GAP
        self.height = top - BAND_GAP + 6

    def _goes_on(self, cell: Cell) -> bool:
        return any(a == cell for a, _ in self.layout.links)

    def _half(self, cell: Cell, start: int) -> float:
        own = cell[1] >= start and not self.layout.is_lane(cell)
        return self.boxes[cell[0]].height / 2 if own else LANE / 2

    def _x(self, layer: int) -> float:
        lead = ENTRY if len(self.layout.layers) > self.per_band else 4.0
        return lead + (layer % self.per_band) * (self.box_width + COLUMN_GAP)

    def _y(self, cell: Cell, band: int) -> float:
        return self.layout.centre[cell] + self.shift[band]

    def draw(self) -> str:
        parts = []
        for a, b in self.layout.links:
            parts.append(self._link(a, b))
        for layer, row in enumerate(self.layout.layers):
            for cell in row:
                parts.append(self._cell(cell, layer // self.per_band))
        if len(self.layout.layers) > self.per_band:
            parts += self._carried()
        return _picture(self.width, self.height, self.boxes, self.layout, parts)

    def _link(self, a: Cell, b: Cell) -> str:
        band, before = b[1] // self.per_band, a[1] // self.per_band
        model = self.boxes[a[0]].model
        x2, y2 = self._x(b[1]), self._y(b, band)
        if band == before:
            return _across(self._x(a[1]) + self.box_width, self._y(a, band), x2, y2, model)
        return _across(ENTRY - 34, self._y(a, band), x2, y2, model)

    def _cell(self, cell: Cell, band: int) -> str:
        x, y = self._x(cell[1]), self._y(cell, band)
        if self.layout.is_lane(cell):
            return _across(x, y, x + self.box_width, y, self.boxes[cell[0]].model)
        box = self.boxes[cell[0]]
        return draw_box(box, x, y - box.height / 2)

    def _carried(self) -> list[str]:
        """Lines that run off a band's right end, and come in at the left of the next one with their names."""
        parts = []
        crossing = [a for a, b in self.layout.links if a[1] // self.per_band != b[1] // self.per_band]
        for cell in dict.fromkeys(crossing):
            band, model = cell[1] // self.per_band, self.boxes[cell[0]].model
            x, y = self._x(cell[1]) + self.box_width, self._y(cell, band)
            parts.append(tag("path", d=f"M{x:.1f} {y:.1f}h22m-5 -3.5l5 3.5l-5 3.5", cls=_edge_class(model)))
            y = self._y(cell, band + 1)
            label = wrap(cell[0], ENTRY - 40, 10.5, 1)[0]
            parts.append(tag("text", text=label, x=ENTRY - 39, y=y + 3.5, text_anchor="end", cls="from"))
        return parts


def _edge_class(model: bool) -> str:
    return "edge model" if model else "edge"


def _tower(layout: Layout, boxes: dict[str, Box], width: float) -> str:
    cells = [cell for row in layout.layers for cell in row]
    half = {cell: 3.0 if layout.is_lane(cell) else boxes[cell[0]].width / 2 for cell in cells}
    low = min(layout.centre[cell] - half[cell] for cell in cells)
    high = max(layout.centre[cell] + half[cell] for cell in cells)
    full = max(width, high - low + 4)
    shift = (full - (high - low)) / 2 - low
    tops, bottoms, y = [], [], 4.0
    for row in layout.layers:
        tops.append(y)
        y += max(boxes[cell[0]].height for cell in row if not layout.is_lane(cell))
        bottoms.append(y)
        y += 34
    parts = []
    for a, b in layout.links:
        start = bottoms[a[1]] if layout.is_lane(a) else tops[a[1]] + boxes[a[0]].height
        parts.append(_down(layout.centre[a] + shift, start, layout.centre[b] + shift, tops[b[1]], boxes[a[0]].model))
    for cell in cells:
        x = layout.centre[cell] + shift
        if layout.is_lane(cell):
            parts.append(_down(x, tops[cell[1]], x, bottoms[cell[1]], boxes[cell[0]].model))
        else:
            parts.append(draw_box(boxes[cell[0]], x - half[cell], tops[cell[1]]))
    return _picture(full, bottoms[-1] + 4, boxes, layout, parts)


def _down(x1: float, y1: float, x2: float, y2: float, model: bool) -> str:
    # a short box beside a tall one: straight down first, so that the bend lies between the layers
    turn = max(y1, y2 - 34)
    bend = (y2 - turn) / 2
    d = (
        f"M{x1:.1f} {y1:.1f}V{turn:.1f}C{x1:.1f} {turn + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"
        if x1 != x2
        else f"M{x1:.1f} {y1:.1f}V{y2:.1f}"
    )
    return tag("path", d=d, cls=_edge_class(model))


def _picture(width: float, height: float, boxes: dict[str, Box], layout: Layout, parts: Sequence[str]) -> str:
    sentences = [
        f"{name}: {', '.join([*boxes[name].lines, boxes[name].time]).strip(', ')}"
        for row in layout.layers
        for name in (cell[0] for cell in row if not layout.is_lane(cell))
    ]
    role = "group" if any(box.mark for box in boxes.values()) else "img"
    title, said = "The lifecycle of this run", ". ".join(sentences) + "."
    return document(width, height, title, said, *parts, cls="lifecycle", role=role)
