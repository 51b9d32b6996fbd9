import numpy as np
import pytest

from export.plots_weights import LARGEST, draw_masks, draw_weights, shown_masks
from export.run_record import KernelPair


def pair(shape, zero=0.0, seed=0):
    before = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return KernelPair(before, np.where(np.abs(before) < np.quantile(np.abs(before), zero), 0, before))


def visible(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def squares(axes):
    """Corners of the squares of each sign."""
    return {patch.get_label(): len(patch.get_path().vertices) // 5 for patch in axes.patches[1:]}


def test_the_largest_kernels_are_shown_in_the_order_of_the_network():
    kernels = {f"layer{i}/kernel": pair((3, 3, 4, 2 + i % 5 * 4), 0.5, i) for i in range(10)}
    titles = [axes.get_title("left").split("\n")[0] for axes in visible(draw_weights(kernels, "data"))]
    sizes = sorted((kernel.before.size for kernel in kernels.values()), reverse=True)[:LARGEST]
    assert len(titles) == LARGEST
    assert titles == sorted(titles)
    assert sorted((kernels[f"{name}/kernel"].before.size for name in titles), reverse=True) == sizes


def test_histograms_hold_every_weight_once_and_no_zero():
    kernel = pair((3, 3, 8, 8), 0.75)
    (axes,) = visible(draw_weights({"a/kernel": kernel}, "data"))
    before, _, after = axes.patches
    assert before.get_data().values.sum() == 576
    assert after.get_data().values.sum() == 144
    assert axes.get_title("left").endswith("75.0% zero or gone")


@pytest.mark.parametrize("values", [0.0, 1.0])
def test_a_kernel_of_equal_weights_can_be_drawn(values):
    kernel = KernelPair(np.full((3, 3, 2, 2), values), np.zeros((3, 3, 2, 1)))
    assert len(visible(draw_weights({"a": kernel}, "data"))) == 1
    assert len(visible(draw_masks({"a": kernel}, "data"))) == 1


def test_masks_show_the_first_kernel_and_the_first_pruned_one():
    kernels = {"a/kernel": pair((3, 3, 3, 8)), "b/kernel": pair((3, 3, 8, 8), 0.5), "c/kernel": pair((8, 4), 0.5)}
    assert shown_masks(kernels) == ["a/kernel", "b/kernel"]
    assert shown_masks({"b/kernel": kernels["b/kernel"], "a/kernel": kernels["a/kernel"]}) == ["b/kernel"]
    assert len(draw_masks(kernels, "data").axes) == 2


def test_a_kernel_that_lost_filters_counts_as_pruned():
    whole = np.ones((3, 3, 2, 4))
    kernels = {"a": KernelPair(whole, whole), "b": KernelPair(whole, whole[..., :3])}
    assert shown_masks(kernels) == ["a", "b"]


def test_there_is_a_square_for_each_weight_that_is_kept():
    after = np.zeros((2, 2, 1, 3))
    after[0, 1, 0, 2], after[1, 0, 0, 0], after[1, 1, 0, 0] = 0.5, -1.0, 1e-9
    (axes,) = draw_masks({"a": KernelPair(np.ones((2, 2, 1, 3)), after)}, "data").axes
    assert squares(axes) == {"positive": 2, "negative": 1}
    negative = axes.patches[2].get_path().vertices
    # Output 0, row 1, column 0; the largest weight's square has a side of 0.94.
    assert negative.min(axis=0) == pytest.approx([0.03, 1.03])
    assert negative.max(axis=0) == pytest.approx([0.97, 1.97])


@pytest.mark.parametrize(
    ("shape", "most", "text"),
    [
        ((3, 3, 64, 32), 16 * 16 * 9, "rows: first 16 of 32 outputs, columns: first 16 of 64 inputs"),
        ((3, 3, 40, 1), 40 * 9, "40 slices, row by row"),
        ((1, 1, 100, 20), 48 * 20, "rows: 20 outputs, columns: first 48 of 100 inputs"),
        ((64, 10), 480, "rows: 10 outputs, columns: first 48 of 64 inputs"),
        ((5, 4, 6), 5 * 24, "rows: 6 outputs, columns: 4 inputs"),
    ],
)
def test_kernels_of_all_kinds_have_a_picture_of_bounded_size(shape, most, text):
    (axes,) = draw_masks({"a": pair(shape)}, "data").axes
    assert sum(squares(axes).values()) == most
    assert axes.get_title("left").endswith(text)


def test_no_kernels_are_said():
    for draw in (draw_weights, draw_masks):
        assert [text.get_text() for text in draw({}, "data").axes[0].texts] == ["no kernels"]
