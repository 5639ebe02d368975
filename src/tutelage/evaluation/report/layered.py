"""Layered drawing of a directed graph: longest-path layers, barycentre order, coordinates by least squares.

After Sugiyama, Tagawa and Toda, “Methods for visual understanding of hierarchical system structures” (1981). An edge
that passes layers gets a lane in each of them, so no line runs through a box; edges of one source share their lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Edge = tuple[str, str]
Cell = tuple[str, int]  # a node in its own layer, or its lane in a later one
SWEEPS = 12


@dataclass(frozen=True)
class Layout:
    """Cells of every layer in order, links between cells of neighbouring layers, and each cell's centre across."""

    layer_of: Mapping[str, int]
    layers: Sequence[Sequence[Cell]]
    links: Sequence[tuple[Cell, Cell]]
    centre: Mapping[Cell, float]

    def is_lane(self, cell: Cell) -> bool:
        """Whether the cell is only passed through."""
        return self.layer_of[cell[0]] != cell[1]


def lay_out(
    names: Sequence[str], edges: Sequence[Edge], sizes: Mapping[str, float], *, lane: float, gap: float, most: int
) -> Layout:
    """Place a graph without cycles: at most `most` nodes in a layer, `sizes` across it, `gap` between cells."""
    layer_of = assign_layers(names, edges, most)
    layers, links = _with_lanes(names, edges, layer_of)
    layers = _order(layers, links)
    extent = {cell: sizes[cell[0]] if layer_of[cell[0]] == cell[1] else lane for row in layers for cell in row}
    return Layout(layer_of, layers, links, _coordinates(layers, links, extent, gap))


def assign_layers(names: Sequence[str], edges: Sequence[Edge], most: int) -> dict[str, int]:
    """Each node one layer after its last predecessor, or later where that layer is full; earlier names go first."""
    before: dict[str, list[str]] = {name: [] for name in names}
    for source, target in edges:
        before[target].append(source)
    layer_of: dict[str, int] = {}
    filled: dict[int, int] = {}
    waiting = list(names)
    while waiting:
        ready = [name for name in waiting if all(source in layer_of for source in before[name])]
        assert ready, f"the graph has a cycle among {waiting}"
        for name in ready:
            layer = max((layer_of[source] + 1 for source in before[name]), default=0)
            while filled.get(layer, 0) >= most:
                layer += 1
            layer_of[name] = layer
            filled[layer] = filled.get(layer, 0) + 1
        waiting = [name for name in waiting if name not in layer_of]
    return layer_of


def _with_lanes(
    names: Sequence[str], edges: Sequence[Edge], layer_of: Mapping[str, int]
) -> tuple[list[list[Cell]], list[tuple[Cell, Cell]]]:
    layers: list[list[Cell]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for name in names:
        layers[layer_of[name]].append((name, layer_of[name]))
    links: dict[tuple[Cell, Cell], None] = {}  # a dictionary, for its order
    for source, target in edges:
        first, last = layer_of[source], layer_of[target]
        for layer in range(first + 1, last):
            if (source, layer) not in layers[layer]:
                layers[layer].append((source, layer))
            links[(source, layer - 1), (source, layer)] = None
        links[(source, last - 1), (target, last)] = None
    return layers, list(links)


def _order(layers: list[list[Cell]], links: Sequence[tuple[Cell, Cell]]) -> list[list[Cell]]:
    before: dict[Cell, list[Cell]] = {cell: [] for row in layers for cell in row}
    after: dict[Cell, list[Cell]] = {cell: [] for row in layers for cell in row}
    for a, b in links:
        before[b].append(a)
        after[a].append(b)
    best, fewest = [list(row) for row in layers], crossings(layers, links)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        neighbours = before if forward else after
        for index in range(len(layers)) if forward else range(len(layers) - 1, -1, -1):
            place = {cell: i for row in layers for i, cell in enumerate(row)}
            # a tie keeps its order: sorted() is stable
            layers[index] = sorted(layers[index], key=lambda cell: _barycentre(cell, neighbours[cell], place))
        found = crossings(layers, links)
        if found < fewest:
            best, fewest = [list(row) for row in layers], found
    return best


def _barycentre(cell: Cell, neighbours: Sequence[Cell], place: Mapping[Cell, int]) -> float:
    return sum(place[other] for other in neighbours) / len(neighbours) if neighbours else float(place[cell])


def crossings(layers: Sequence[Sequence[Cell]], links: Sequence[tuple[Cell, Cell]]) -> int:
    """How many pairs of links cross."""
    place = {cell: i for row in layers for i, cell in enumerate(row)}
    total = 0
    for i, (a, b) in enumerate(links):
        for c, d in links[i + 1 :]:
            if a[1] == c[1] and (place[a] - place[c]) * (place[b] - place[d]) < 0:
                total += 1
    return total


def _coordinates(
    layers: Sequence[Sequence[Cell]], links: Sequence[tuple[Cell, Cell]], extent: Mapping[Cell, float], gap: float
) -> dict[Cell, float]:
    near: dict[Cell, list[Cell]] = {cell: [] for row in layers for cell in row}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    centre = dict.fromkeys(near, 0.0)
    for _ in range(SWEEPS):
        for row in layers:
            wanted = [sum(centre[o] for o in near[cell]) / max(1, len(near[cell])) for cell in row]
            for cell, position in zip(row, spread(wanted, [extent[cell] for cell in row], gap), strict=True):
                centre[cell] = position
    return centre


def spread(wanted: Sequence[float], sizes: Sequence[float], gap: float) -> list[float]:
    """Centres in the given order, without overlap, nearest to `wanted` in least squares.

    With the separations subtracted this is isotonic regression, solved exactly by pooling adjacent violators.
    """
    offsets = [0.0]
    for left, right in pairwise(sizes):
        offsets.append(offsets[-1] + (left + right) / 2 + gap)
    pools: list[tuple[float, int]] = []  # (mean, length)
    for target, offset in zip(wanted, offsets, strict=False):
        mean, length = target - offset, 1
        while pools and pools[-1][0] > mean:
            other, many = pools.pop()
            mean, length = (mean * length + other * many) / (length + many), length + many
        pools.append((mean, length))
    levels = [mean for mean, length in pools for _ in range(length)]
    return [level + offset for level, offset in zip(levels, offsets, strict=False)]
