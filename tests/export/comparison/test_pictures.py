import matplotlib.text
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from export.comparison.comparison import compare_runs
from export.comparison.pictures import draw_fronts
from export.comparison.runs import read_runs
from tests.export.comparison.small_runs import exports_of, file_row, write_accuracy


def pictures_of(*places):
    return {picture.name: picture for picture in draw_fronts(compare_runs(read_runs(places)))}


def lines_of(axes):
    """Label -> points of what the legend names."""
    return {
        line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def run_at(directory, accuracy, size, latency, config):
    return write_accuracy(directory, accuracy, config, exports=exports_of(file_row("litert", size, accuracy, latency)))


def test_members_others_and_the_dense_network_are_drawn_apart(tmp_path):
    places = [
        run_at(tmp_path / name, accuracy, size, 1.0, {"ws_prune_ratio": ratio})
        for name, accuracy, size, ratio in (
            ("a", 0.9, 300_000, 0.5),
            ("b", 0.8, 100_000, 0.9),
            ("c", 0.7, 200_000, 0.7),
        )
    ]
    pictures = pictures_of(*places)
    assert list(pictures) == ["front-bytes", "front-flops", "front-latency"]
    (axes,) = pictures["front-bytes"].figure.axes
    assert lines_of(axes) == {
        "Pareto front": [(100.0, 0.8), (300.0, 0.9)],
        "others": [(200.0, 0.7)],
        "dense": [(1100.0, 0.9)],
    }
    assert axes.get_xscale() == "log"  # 1,100 is more than eight times 100
    assert pictures["front-latency"].figure.axes[0].get_xscale() == "linear"
    markers = {line.get_label(): line.get_marker() for line in axes.lines}
    assert len({markers[name] for name in ("Pareto front", "others", "dense")}) == 3  # shapes say the same as colours


def test_several_seeds_have_whiskers_from_lowest_to_highest(tmp_path):
    places = [run_at(tmp_path / str(s), acc, 1000, 1.0 + s, {"seed": s}) for s, acc in enumerate((0.8, 0.9))]
    (axes,) = pictures_of(*places)["front-latency"].figure.axes
    segments = [segment.tolist() for collection in axes.collections for segment in collection.get_segments()]
    assert segments == [[[1.5, 0.8], [1.5, 0.9]], [[1.0, pytest.approx(0.85)], [2.0, pytest.approx(0.85)]]]


def test_names_cover_neither_each_other_nor_points(tmp_path):
    places = [
        run_at(tmp_path / f"a_rather_long_name_of_a_run_{i:02d}", 0.8 + 0.001 * i, 100_000 + 100 * i, 1.0, {"n": i})
        for i in range(30)
    ]
    figure = pictures_of(*places)["front-bytes"].figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    notes = [child for child in axes.get_children() if isinstance(child, matplotlib.text.Annotation)]
    assert notes
    assert all(len(note.get_text()) <= 28 for note in notes)
    boxes = [note.get_window_extent(canvas.get_renderer()) for note in notes]
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[i + 1 :])
    (members,) = (line for line in axes.lines if line.get_label() == "Pareto front")
    places = axes.transData.transform(list(zip(members.get_xdata(), members.get_ydata(), strict=True)))
    assert not any(box.contains(*place) for box in boxes for place in places)


def test_a_cost_of_nothing_is_drawn_on_a_plain_axis(tmp_path):
    layers = [{"path": "k", "shape": [1], "parameters": 1, "target_ratio": 1.0, "sparsity": 1.0, "flops_dense": 100}]
    places = [
        write_accuracy(tmp_path / str(cost), 0.5 + cost, {"n": cost}, layers=[layers[0] | {"flops_sparse": cost}])
        for cost in (0, 100)
    ]
    assert pictures_of(*places)["front-flops"].figure.axes[0].get_xscale() == "linear"
