import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from PIL import Image

from export import plots

TITLE = "digits32 (embedded, not CIFAR-10)"
BASELINES = {"uniform": 0.806, "heurist": 0.797, "erk": 0.823, "lamp": 0.8235, "global": 0.796, "dp": 0.824}


def search_records(count):
    """`count` roll-outs: six protocols of nearly equal reward, then an agent that first does badly, then well."""
    generator = np.random.default_rng(0)
    sources = [*BASELINES, *["agent"] * count][:count]
    rewards = [*BASELINES.values(), *(0.2 + 0.63 * np.minimum(generator.random(count) + np.arange(count) / 80, 1))]
    return [
        {"index": i, "source": s, "reward": float(r)} for i, (s, r) in enumerate(zip(sources, rewards, strict=False))
    ]


def layer_rows(count):
    return [
        {
            "path": f"layer{i % 3 + 1}.{i}.downsample.0/kernel",
            "parameters": 432 * (i + 1),
            "target_ratio": i / (count + 1),
            "sparsity": i / (count + 1),
        }
        for i in range(count)
    ]


def training_history(count, sparsity=0.75):
    return [
        {
            "step": 10 * i,
            "loss": 2.0 / (i + 1),
            "accuracy": 1 - 0.9 / (i + 1),
            "sparsity": sparsity * min(i / 100, 1),
            "learning_rate": 0.1,
            **({"validation_accuracy": 0.8} if i % 20 == 19 else {}),
        }
        for i in range(count)
    ]


@pytest.fixture
def figures(monkeypatch):
    """The figures drawn, in place of files."""
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    return drawn


def assert_apart_and_inside(figure, texts):
    """No two of `texts` overlap in the picture and none is cut off."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # Text's own method: an annotation's would add its leader line.
    boxes = [Text.get_window_extent(text, canvas.get_renderer()) for text in texts]
    assert boxes
    for i, box in enumerate(boxes):
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize(
    ("plot", "make", "count", "size"),
    [
        *((plots.plot_search, search_records, count, (1140, 672)) for count in (0, 1, 200)),
        *((plots.plot_training, training_history, count, None) for count in (0, 1, 200)),
        *((plots.plot_ratios, layer_rows, count, None) for count in (0, 1, 60)),
    ],
)
def test_each_plot_is_a_png_that_is_not_blank(tmp_path, plot, make, count, size):
    path = tmp_path / "plot.png"
    plot(make(count), path, TITLE)
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
        if size is not None:
            assert image.size == size
    height, width, _ = pixels.shape
    assert width >= 900
    assert height >= 600
    assert (pixels[60:] < 128).any(axis=-1).sum() > 500
    assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]


def test_every_title_holds_the_data_title_and_fits(figures):
    for title in (
        TITLE,
        "a data set of somebody's own with a name that goes on and on, as names of folders often do, v2",
    ):
        plots.plot_search(search_records(20), "", title)
        plots.plot_ratios(layer_rows(3), "", title)
        plots.plot_training(training_history(5), "", title)
        for figure in figures[-3:]:
            assert title in figure.get_suptitle()
            assert_apart_and_inside(figure, [t for t in figure.texts if t.get_text() == figure.get_suptitle()])


def test_the_best_so_far_never_falls_and_leaves_the_finalists_out(figures):
    rewards = [0.5, 0.4, 0.6, 0.55]
    records = [{"index": i, "source": "agent", "reward": r} for i, r in enumerate(rewards)]
    plots.plot_search(records, "", TITLE, finalists=[{"index": 2, "reward": 0.9, "merit": 0.5}])
    (best,) = [line for line in figures[0].axes[0].lines if line.get_label() == "best so far"]
    assert list(best.get_ydata()) == [0.5, 0.5, 0.6, 0.6]


def test_finalists_stand_above_their_roll_outs_and_the_one_of_most_merit_is_the_chosen_one(figures):
    figures_of_each = [(2, 0.83, 0.5), (5, 0.85, 0.7), (3, 0.86, 0.6)]
    finalists = [{"index": index, "reward": reward, "merit": merit} for index, reward, merit in figures_of_each]
    plots.plot_search(search_records(6), "", TITLE, finalists=finalists)
    drawn = {c.get_label(): c for c in figures[0].axes[0].collections}
    assert drawn["finalists re-solved"].get_offsets().tolist() == [[2, 0.83], [5, 0.85], [3, 0.86]]
    assert drawn["chosen (0.850)"].get_offsets().tolist() == [[5, 0.85]]
    (lines,) = [c for c in drawn.values() if isinstance(c, LineCollection)]
    assert [segment.tolist() for segment in lines.get_segments()][1] == [[5, BASELINES["dp"]], [5, 0.85]]


def test_no_roll_out_is_left_out_of_the_picture(figures):
    records = search_records(200)
    plots.plot_search(records, "", TITLE)
    axes = figures[0].axes[0]
    offsets = np.concatenate([c.get_offsets() for c in axes.collections])
    assert sorted(offsets[:, 0]) == list(range(200))
    low, high = axes.get_ylim()
    assert ((offsets[:, 1] > low) & (offsets[:, 1] < high)).all()
    below = sum(record["reward"] < low for record in records)
    assert below > 0
    assert f"({below})" in " ".join(c.get_label() for c in axes.collections)


def test_protocols_are_named_once_each_without_overlap(figures):
    plots.plot_search(search_records(200), "", TITLE)
    labels = figures[0].axes[0].texts
    assert sorted(label.get_text() for label in labels) == sorted(f"{n} {r:.3f}" for n, r in BASELINES.items())
    assert_apart_and_inside(figures[0], labels)


@pytest.mark.parametrize("count", [1, 22, 60])
def test_layer_names_do_not_overlap(figures, count):
    plots.plot_ratios(layer_rows(count), "", TITLE)
    labels = figures[0].axes[1].get_xticklabels()
    assert [label.get_text() for label in labels] == [r["path"].removesuffix("/kernel") for r in layer_rows(count)]
    assert_apart_and_inside(figures[0], labels)


def test_bars_are_the_sparsities_and_parameters_kept(figures):
    layers = [
        {"path": "a/kernel", "parameters": 100, "target_ratio": 0.5, "sparsity": 0.5},
        {"path": "b/kernel", "parameters": 300, "target_ratio": 0.9, "sparsity": 0.9},
        {"path": "c/kernel", "parameters": 100, "target_ratio": 1.0, "sparsity": 1.0},
    ]
    plots.plot_ratios(layers, "", TITLE)
    ratio_axes, size_axes = figures[0].axes
    assert [bar.get_height() for bar in ratio_axes.containers[0]] == [0.5, 0.9, 1.0]
    before, kept = size_axes.containers
    assert [bar.get_height() for bar in before] == [100, 300, 100]
    assert [bar.get_height() for bar in kept] == [50, 30, 0]
    # (50 + 270 + 100) / 500
    assert "84.0%" in " ".join(line.get_label() for line in ratio_axes.lines)


def test_a_target_is_drawn_where_there_is_one(figures):
    def drawn(*targets):
        layers = [{"path": "a/kernel", "parameters": 9, "target_ratio": target, "sparsity": 0.5} for target in targets]
        plots.plot_ratios(layers, "", TITLE)
        lines = [c for c in figures[-1].axes[0].collections if isinstance(c, LineCollection)]
        return [segment[0, 1] for segment in lines[0].get_segments() if len(segment)] if lines else None

    assert drawn(0.25, None) == [0.25]
    assert drawn(None, None) is None


def test_sparsity_has_a_panel_only_where_something_was_pruned(figures):
    plots.plot_training(training_history(50), "", TITLE)
    plots.plot_training(training_history(50, sparsity=0.0), "", TITLE)
    names = [[axes.get_ylabel() for axes in figure.axes] for figure in figures]
    assert names == [["accuracy", "loss", "sparsity", "learning rate"], ["accuracy", "loss", "learning rate"]]


def test_the_loss_against_a_teacher_has_a_panel_of_its_own(figures):
    history = [row | {"distillation_loss": 0.1 * row["loss"]} for row in training_history(3)]
    plots.plot_training(history, "", TITLE)
    panel = next(axes for axes in figures[0].axes if axes.get_ylabel() == "distillation loss")
    np.testing.assert_allclose(panel.lines[0].get_ydata(), [0.2, 0.1, 0.2 / 3])


@given(st.lists(st.floats(0, 1), max_size=15))
def test_spread_labels_are_apart_in_order_and_in_range(positions):
    moved = plots.spread(positions, 0.05, 0.0, 1.0)
    order = np.argsort(positions, kind="stable")
    assert (np.diff(moved[order]) >= 0.05 - 1e-9).all()
    assert ((moved >= -1e-9) & (moved <= 1 + 1e-9)).all()


def test_labels_that_are_far_apart_stay_where_they_are():
    assert plots.spread([0.9, 0.1, 0.5], 0.05, 0.0, 1.0).tolist() == pytest.approx([0.9, 0.1, 0.5])
