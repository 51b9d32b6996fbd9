import numpy as np
import pytest

from export.plots_rollouts import chosen_index, draw_accuracy, is_narrow, overall_ratio, unevenness

SIZES = {"a": 100, "b": 300}


def rollout(index, source, a, b, accuracy, after=None):
    return {
        "index": index,
        "source": source,
        "ratios": {"a": a, "b": b},
        "accuracy": accuracy,
        "accuracy_after": after,
        "reward": accuracy,
    }


def narrow(count=10):
    """All remove three quarters: b gives back what a takes."""
    return [
        rollout(i, "uniform" if i == 0 else "agent", 0.75 - 0.03 * i, 0.75 + 0.01 * i, 0.8 + 0.01 * i)
        for i in range(count)
    ]


def points(axes):
    return {c.get_label(): c.get_offsets().tolist() for c in axes.collections}


def test_the_overall_ratio_and_the_unevenness_are_weighted_by_parameters():
    # (100 * 0.1 + 300 * 0.9) / 400 and sqrt((100 * 0.6^2 + 300 * 0.2^2) / 400)
    assert overall_ratio({"a": 0.1, "b": 0.9}, SIZES) == pytest.approx(0.7)
    assert unevenness({"a": 0.1, "b": 0.9}, SIZES) == pytest.approx(np.sqrt(0.12))
    assert unevenness({"a": 0.4, "b": 0.4}, SIZES) == pytest.approx(0)


def test_roll_outs_that_remove_the_same_share_get_a_second_panel():
    figure = draw_accuracy(narrow(), SIZES, "data")
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "weights removed",
        "unevenness of the ratios over the layers",
    ]
    removed = np.array([point for points_ in points(figure.axes[0]).values() for point in points_])
    np.testing.assert_allclose(removed[:, 0], 0.75)
    # a = 0.75 - 3 d, b = 0.75 + d: sqrt((100 * 9 d^2 + 300 d^2) / 400) = sqrt(3) d
    uneven = points(figure.axes[1])["agent"]
    np.testing.assert_allclose(sorted(x for x, _ in uneven), np.sqrt(3) * 0.01 * np.arange(1, 10), atol=1e-12)


def test_roll_outs_that_remove_different_shares_have_one_panel():
    records = [rollout(i, "agent", 0.1 * i, 0.1 * i, 0.9 - 0.05 * i) for i in range(9)]
    assert not is_narrow(records, SIZES)
    (axes,) = draw_accuracy(records, SIZES, "data", metric="IoU").axes
    assert points(axes)["agent"] == [[pytest.approx(0.1 * i), pytest.approx(0.9 - 0.05 * i)] for i in range(9)]
    assert axes.get_ylabel() == "IoU"


def test_a_protocol_alone_needs_no_second_panel():
    assert not is_narrow([rollout(0, "uniform", 0.5, 0.5, 0.8)], SIZES)
    assert len(draw_accuracy([rollout(0, "uniform", 0.5, 0.5, 0.8)], SIZES, "data").axes) == 1


def test_every_given_protocol_has_a_marker_of_its_own():
    records = [rollout(i, name, 0.5, 0.5 + 0.001 * i, 0.8) for i, name in enumerate(("uniform", "erk", "dp"))]
    axes = draw_accuracy(records, SIZES, "data").axes[0]
    shapes = [c.get_paths()[0].vertices.tobytes() for c in axes.collections if c.get_label()[0] in "ued"]
    assert len(shapes) == len(set(shapes)) == 3


def test_the_chosen_one_is_the_finalist_of_most_merit_where_there_are_finalists():
    records = narrow(4)
    finalists = [{"index": 1, "merit": 0.9, "reward": 0.1}, {"index": 2, "merit": 0.5, "reward": 0.9}]
    assert chosen_index(records, finalists) == 1
    assert chosen_index(records, ()) == 3
    drawn = points(draw_accuracy(records, SIZES, "data", finalists).axes[0])
    assert drawn["chosen (agent)"] == [[pytest.approx(0.75), pytest.approx(0.81)]]


def test_a_roll_out_counts_with_its_accuracy_after_its_training():
    (axes,) = draw_accuracy([rollout(0, "agent", 0.5, 0.5, 0.2, after=0.7)], SIZES, "data").axes
    assert points(axes)["agent"] == [[0.5, 0.7]]


def test_a_bad_beginning_is_shown_on_the_edge_and_leaves_none_out():
    records = [*narrow(20), rollout(20, "agent", 0.6, 0.8, 0.05)]
    axes = draw_accuracy(records, SIZES, "data").axes[0]
    low = axes.get_ylim()[0]
    assert low > 0.5
    (label,) = [name for name in points(axes) if name.startswith("below")]
    assert label.endswith("(1)")
    chosen = 1
    assert sum(len(places) for places in points(axes).values()) == len(records) + chosen


def test_no_roll_outs_are_said_and_not_drawn():
    (axes,) = draw_accuracy([], SIZES, "data").axes
    assert [text.get_text() for text in axes.texts] == ["no roll-outs"]
