import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from export.plots_layers import LEAST_GAP, draw_layers, labelled


def layer(path, parameters, sparsity):
    return {"path": path, "parameters": parameters, "sparsity": sparsity}


def test_areas_are_weights():
    layers = [layer("a/kernel", 100, 0.5), layer("b/kernel", 300, 0.9)]
    (axes,) = draw_layers(layers, "data").axes
    kept, removed = axes.containers
    assert [bar.get_x() for bar in removed] == [0, 100]
    assert sum(bar.get_width() * bar.get_height() for bar in removed) == 50 + 270
    assert sum(bar.get_width() * bar.get_height() for bar in kept) == 50 + 30 + 0.0
    assert "80.0%" in " ".join(line.get_label() for line in axes.lines)  # (50 + 270) / 400


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True), st.randoms(use_true_random=False))
def test_labels_are_apart_and_the_most_important_has_one(places, random):
    importance = np.array([random.random() for _ in places])
    chosen = labelled(np.array(places), importance)
    assert int(np.argmax(importance)) in chosen
    taken = sorted(places[i] for i in chosen)
    assert all(b - a >= LEAST_GAP for a, b in zip(taken, taken[1:], strict=False))
    left_out = set(range(len(places))) - set(chosen)
    assert all(any(abs(places[i] - places[j]) < LEAST_GAP for j in chosen) for i in left_out)


def test_names_of_two_hundred_layers_do_not_overlap():
    figure = draw_layers([layer(f"block{i}.conv/kernel", 100 + i, 0.5) for i in range(200)], "data")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in figure.axes[0].get_xticklabels()]
    assert 20 < len(boxes) < 200
    assert not any(a.overlaps(b) for a, b in zip(boxes, boxes[1:], strict=False))


def test_no_layers_are_said():
    (axes,) = draw_layers([], "data").axes
    assert [text.get_text() for text in axes.texts] == ["no prunable layers"]
