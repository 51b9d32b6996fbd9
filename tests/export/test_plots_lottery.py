import matplotlib.text
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from export import plots_lottery
from export.plots_lottery import MOST_LABELS, plot_rounds

TITLE = "digits32 (embedded, not CIFAR-10)"


def rounds(count, ratio=0.8):
    return [
        {
            "round": number,
            "sparsity": 1 - (1 - ratio) ** (number / count),
            "accuracy": 0.9 - 0.01 * number,
            "validation_accuracy": 0.91 - 0.01 * number,
            "seconds": 1.0,
        }
        for number in range(count + 1)
    ]


@pytest.fixture
def figures(monkeypatch):
    """The figures drawn, in place of files."""
    drawn = []
    monkeypatch.setattr(plots_lottery, "save_figure", lambda figure, path: drawn.append(figure))
    return drawn


def test_the_plot_is_a_png_that_is_not_blank(tmp_path):
    plot_rounds(rounds(5), tmp_path / "plot.png", TITLE)
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[60:] < 128).any(axis=-1).sum() > 500


def test_accuracy_is_drawn_over_the_share_left_dense_first_and_at_equal_distances(figures):
    plot_rounds(rounds(4), "", TITLE)
    (axes,) = figures[0].axes
    for line, key in zip(axes.lines, ("validation_accuracy", "accuracy"), strict=False):
        np.testing.assert_allclose(line.get_xdata(), [1, 0.2**0.25, 0.2**0.5, 0.2**0.75, 0.2])
        np.testing.assert_allclose(line.get_ydata(), [row[key] for row in rounds(4)])
    FigureCanvasAgg(figures[0]).draw()
    drawn = axes.transData.transform([(x, 0.9) for x in axes.lines[0].get_xdata()])[:, 0]
    np.testing.assert_allclose(np.diff(drawn), np.full(4, drawn[1] - drawn[0]))
    assert drawn[1] > drawn[0]  # from dense on the left to sparse on the right


@pytest.mark.parametrize("count", [1, 5, 12, 40])
def test_ticks_name_the_share_removed_and_do_not_overlap(figures, count):
    plot_rounds(rounds(count, 0.9), "", TITLE)
    (axes,) = figures[0].axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(labels) <= MOST_LABELS
    assert "90%" in labels
    canvas = FigureCanvasAgg(figures[0])
    canvas.draw()
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in axes.get_xticklabels()]
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[i + 1 :])


def test_the_title_names_the_data_and_the_axis_the_metric(figures):
    plot_rounds(rounds(2), "", TITLE, "minus normalised error")
    texts = [text.get_text() for text in figures[0].findobj(matplotlib.text.Text)]
    assert any(TITLE in text for text in texts)
    assert figures[0].axes[0].get_ylabel() == "minus normalised error"
    assert "dense, test (0.900)" in texts
