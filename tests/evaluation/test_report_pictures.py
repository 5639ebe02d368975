"""The pictures: layers without overlap, curves without loss of extremes, text inside its box."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from tutelage.evaluation.report.curves import CHART_STYLE, Chart, Line, downsample, line_chart, nice_ticks, smooth
from tutelage.evaluation.report.layered import Edge, assign_layers, crossings, lay_out, spread
from tutelage.evaluation.report.svg import standalone
from tutelage.evaluation.report.text import count, duration, number, percent, text_width, wrap


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[Edge]]:
    names = [f"n{i}" for i in range(draw(st.integers(1, 12)))]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=20)) if pairs else []
    return names, edges


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_layout_keeps_the_order_of_stages_and_never_overlaps(graph: tuple[list[str], list[Edge]], most: int) -> None:
    names, edges = graph
    sizes = {name: 20.0 + 7 * i for i, name in enumerate(names)}
    layout = lay_out(names, edges, sizes, lane=10, gap=6, most=most)
    for source, target in edges:
        assert layout.layer_of[source] < layout.layer_of[target]
    for row in layout.layers:
        assert 1 <= sum(not layout.is_lane(cell) for cell in row) <= most
        extent = [10.0 if layout.is_lane(cell) else sizes[cell[0]] for cell in row]
        for (a, size_a), (b, size_b) in pairwise(zip(row, extent, strict=True)):
            assert layout.centre[b] - layout.centre[a] >= (size_a + size_b) / 2 + 6 - 1e-6
    for a, b in layout.links:
        assert b[1] == a[1] + 1
    assert {(source, target) for source, target in edges} <= _reached(layout.links, names, layout.layer_of)


def _reached(links: object, names: list[str], layer_of: object) -> set[Edge]:
    """Pairs joined through lanes alone."""
    assert isinstance(links, list)
    assert isinstance(layer_of, dict)
    return {(a[0], b[0]) for a, b in links if layer_of[b[0]] == b[1]}


def test_layers_are_longest_paths() -> None:
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "e")]
    assert assign_layers(list("abcde"), edges, 4) == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 1}


def test_barycentres_undo_a_crossing() -> None:
    names = ["a", "b", "x", "y"]
    layout = lay_out(names, [("a", "y"), ("b", "x")], dict.fromkeys(names, 10.0), lane=4, gap=2, most=4)
    assert crossings(layout.layers, layout.links) == 0


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_spread_leaves_what_fits_and_keeps_the_mean(wanted: list[float]) -> None:
    placed = spread(wanted, [10.0] * len(wanted), 2)
    assert all(b - a >= 12 - 1e-6 for a, b in pairwise(placed))
    if all(b - a >= 12 for a, b in pairwise(wanted)):
        assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(placed, wanted, strict=True))
    assert math.isclose(sum(placed), sum(wanted), abs_tol=1e-6)


values = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf]))


@settings(max_examples=40, deadline=None)
@given(st.lists(values, min_size=2, max_size=400), st.integers(1, 20))
def test_downsampling_keeps_extremes_ends_and_what_is_not_finite(series: list[float], buckets: int) -> None:
    points = [(float(i), value) for i, value in enumerate(series)]
    kept = downsample(points, buckets)
    assert kept[0] is points[0]
    assert kept[-1] is points[-1]
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})
    finite = [value for value in series if math.isfinite(value)]
    kept_finite = [value for _, value in kept if math.isfinite(value)]
    if finite:
        assert (min(kept_finite), max(kept_finite)) == (min(finite), max(finite))
    assert len(kept) - len(kept_finite) == len(series) - len(finite)
    assert len(kept_finite) <= 4 * buckets


@settings(max_examples=40, deadline=None)
@given(st.lists(values, min_size=2, max_size=80))
def test_any_series_becomes_a_picture_inside_its_frame(series: list[float]) -> None:
    points = [(float(i), value) for i, value in enumerate(series)]
    tree = etree.fromstring(line_chart(Chart("Loss <&>", [Line("training", "train/loss", points)])))
    assert tree.find("{*}title").text == "Loss <&>"
    crosses = tree.findall("{*}path[@class='broken']")
    assert len(crosses) == sum(not math.isfinite(value) for value in series)
    for text in tree.findall("{*}text"):
        assert -6 <= float(text.get("y")) <= 176


def test_a_picture_stands_alone_for_documentation() -> None:
    chart = Chart(
        "Loss", [Line("a", "train/loss", [(1, 2.0), (2, 1.0)]), Line("b", "train/loss", [(1, 2.0), (2, 1.0)])]
    )
    picture = standalone(line_chart(chart), CHART_STYLE)
    tree = etree.fromstring(picture)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme" in "".join(tree.find("{*}style").itertext())


def test_equal_ends_get_labels_that_do_not_overlap() -> None:
    lines = [Line(label, "train/loss", [(1, 2.0), (2, 1.0)]) for label in "abc"]
    tree = etree.fromstring(line_chart(Chart("Loss", lines)))
    heights = sorted(float(t.get("y")) for t in tree.findall("{*}text") if "end" in (t.get("class") or ""))
    assert all(b - a >= 26 for a, b in pairwise(heights))


def test_smoothing_keeps_a_constant_and_follows_a_steep_start() -> None:
    assert smooth([(i, 3.0) for i in range(50)]) == [(i, 3.0) for i in range(50)]
    steep = [(float(i), math.exp(-i / 20)) for i in range(400)]
    assert max(abs(a - b) for (_, a), (_, b) in zip(steep, smooth(steep), strict=True)) < 0.05


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_ticks_are_few_and_round(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 7


@given(st.text(max_size=80), st.integers(40, 300), st.integers(1, 4))
def test_wrapped_text_fits(text: str, width: int, most: int) -> None:
    lines = wrap(text, width, 11, most)
    assert 1 <= len(lines) <= most
    assert all(text_width(line, 11) <= width for line in lines)


def test_a_name_too_long_for_a_line_breaks_at_its_hyphen() -> None:
    assert wrap("facts-rewritten", 100, 13, 2) == ["facts-", "rewritten"]
    assert "".join(wrap("-rewritten-again", 60, 13, 9)) == "-rewritten-again"


def test_numbers_as_people_write_them() -> None:
    shown = [count(4812, "documents"), count(1, "documents"), count(1_214_000), count(98_765_432), count(999_999)]
    assert [s.replace("\u202f", " ") for s in shown] == ["4,812 documents", "1 document", "1.21 M", "98.8 M", "1,000 k"]
    assert [duration(s).replace("\u202f", " ") for s in (3.14, 59.6, 492, 7500)] == [
        "3.1 s",
        "1 min 00 s",
        "8 min 12 s",
        "2 h 05 min",
    ]
    assert [number(v) for v in (7.618, 0.9724, -0.4, 12.44, 3e-5, 0, math.nan, math.inf)] == [
        "7.62",
        "0.972",
        "−0.400",
        "12.4",
        "3.0e-05",
        "0",
        "NaN",
        "∞",
    ]
    assert percent(0.974).replace("\u202f", " ") == "97.4 %"
    assert percent(0.0001).replace("\u202f", " ") == "< 0.1 %"
    assert percent(1).replace("\u202f", " ") == "100 %"
