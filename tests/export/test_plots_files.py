import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from export.plots_files import draw_latency, draw_sizes, timed_rows
from tests.export.page.records import export_row, exports


def names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_sizes_are_bars_from_the_largest_to_the_smallest_without_refused_files():
    (axes,) = draw_sizes(exports(), "data").axes
    files, ideals = axes.containers
    widths = [bar.get_width() for bar in files]
    assert widths == sorted(widths, reverse=True)
    assert len(widths) == 12
    assert "LiteRT, all int8" not in names(axes)
    assert widths[-1] == pytest.approx(27.9)
    assert [bar.get_width() for bar in ideals][-1] == pytest.approx(22.32)
    assert [text.get_text() for text in axes.texts][-1] == "28 kB"


def test_a_file_without_an_ideal_has_a_bar_alone():
    rows = exports()
    rows["formats"] = [export_row("trim", "TrimFlow", 9_400, ideal_bytes=None)]
    (axes,) = draw_sizes(rows, "data").axes
    assert [len(bars) for bars in axes.containers] == [2, 1]
    assert [text.get_text() for text in axes.texts] == ["1,103 kB", "9.4 kB"]


def test_latencies_are_medians_with_all_their_rounds():
    rows = exports()
    (axes,) = draw_latency(rows, "data").axes
    one, both = axes.containers
    points, _, (lines,) = one
    assert points.get_xdata().tolist() == [2.41, 1.05, 2.39, 2.42, 2.44, 2.8]
    np.testing.assert_allclose(lines.get_segments()[1][:, 0], [0.95 * 1.05, 1.2 * 1.05])
    assert names(axes)[:2] == ["dense network, LiteRT float32", "LiteRT, int8 weights"]
    assert names(axes)[-1] == "Keras"  # timed with all threads only
    assert both[0].get_xdata().tolist()[-1] == 9.8
    assert both.get_label() == "all 2 threads"


def test_what_was_not_timed_is_not_drawn():
    assert not {row["format"] for row in timed_rows(exports())} & {"trim", "trim-16", "litert-full-int8"}
    refused = {"format": "dense", "title": "dense", "refused": "no"}
    nothing = {"dense": refused, "formats": [export_row("trim", "TrimFlow", 10)], "threads": 1}
    (axes,) = draw_latency(nothing, "data").axes
    assert [text.get_text() for text in axes.texts] == ["nothing was timed"]


@pytest.mark.parametrize("draw", [draw_sizes, draw_latency])
def test_names_are_inside_the_picture(draw):
    rows = exports()
    rows["formats"][2]["title"] = "a format with a name so long that nobody would ever want to read it in a picture"
    figure = draw(rows, "data")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for label in figure.axes[0].get_yticklabels():
        assert label.get_window_extent(canvas.get_renderer()).x0 >= 0
