import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from datasets.config import DataConfig
from datasets.own_split import OwnSource, check_classes, choose, shortened, split_by_shares, spread_order
from utils.errors import InputError

SHARES = (0.8, 0.1, 0.1)
class_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=6)
some_shares = st.tuples(st.integers(1, 10), st.integers(0, 10), st.integers(0, 10)).map(
    lambda parts: [part / sum(parts) for part in parts]
)
seeds = st.integers(0, 2**31)


def labels_of(sizes, seed=0):
    """Labels of classes of these sizes, mixed."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int32)


@hypothesis.given(class_sizes, some_shares, seeds)
def test_a_split_is_a_partition_stratified_and_the_same_every_time(sizes, shares, seed):
    labels = labels_of(sizes)
    pieces = split_by_shares(labels, shares, seed)
    assert sorted(np.concatenate(pieces)) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        counts = [np.count_nonzero(labels[piece] == label) for piece in pieces]
        needed = np.count_nonzero(shares)
        assert counts[0] >= 1
        for count, share in zip(counts, shares, strict=True):
            # The pieces that get one where rounding gives none take it from the largest.
            assert size * share - needed < count < size * share + needed
            assert share > 0 or count == 0
            assert count >= 1 or share == 0 or size < needed
    for piece, again in zip(pieces, split_by_shares(labels, shares, seed), strict=True):
        np.testing.assert_array_equal(piece, again)


@pytest.mark.parametrize(
    ("size", "shares", "expected"),
    [
        (100, SHARES, [80, 10, 10]),
        (10, SHARES, [8, 1, 1]),
        (3, SHARES, [1, 1, 1]),
        (2, SHARES, [2, 0, 0]),
        (1, (0.2, 0.4, 0.4), [1, 0, 0]),
        (5, SHARES, [3, 1, 1]),  # 4 + 0.5 + 0.5: one of the halves is rounded up, the other gets one of training's
        (7, (0.5, 0.3, 0.2), [4, 2, 1]),  # 3.5, 2.1, 1.4
        (100, (0.29, 0.0, 0.71), [29, 0, 71]),
        (4, (0.9, 0.0, 0.1), [3, 0, 1]),
    ],
)
def test_sizes_of_pieces_worked_by_hand(size, shares, expected):
    assert [len(piece) for piece in split_by_shares(np.zeros(size, int), shares, 0)] == expected


def test_another_seed_splits_otherwise():
    labels = labels_of([50])
    first, second = (split_by_shares(labels, SHARES, seed)[2] for seed in (0, 1))
    assert set(first) != set(second)


@hypothesis.given(class_sizes, seeds)
def test_beginnings_of_the_order_hold_every_class_and_its_share(sizes, seed):
    labels = labels_of(sizes)
    order = spread_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    assert set(labels[order[: len(sizes)]]) == set(range(len(sizes)))
    for end in range(len(sizes), len(labels) + 1):
        counts = np.bincount(labels[order[:end]], minlength=len(sizes))
        # There is one place t in [0, 1) up to which all classes have come: ceil(t * n) of n.
        assert max((counts - 1) / sizes) <= min(counts / sizes)


def test_the_order_is_random_within_a_class():
    order = spread_order(np.zeros(100, int), 5)
    assert order.tolist() != list(range(100))
    assert order.tolist() == spread_order(np.zeros(100, int), 5).tolist()
    assert order.tolist() != spread_order(np.zeros(100, int), 6).tolist()


def test_given_parts_are_kept_whole_and_missing_ones_split_off_by_their_share():
    labels = {"train": labels_of([90, 90]), "test": labels_of([7, 5])}
    choices = choose(labels, (0.8, 0.2, 0.5), DataConfig(), 3)
    assert [choices[name].part for name in ("train", "validation", "test")] == ["train", "train", "test"]
    assert [len(choices[name].indices) for name in ("train", "validation", "test")] == [144, 36, 12]
    both = np.concatenate([choices["train"].indices, choices["validation"].indices])
    assert sorted(both) == list(range(180))
    assert sorted(choices["test"].indices) == list(range(12))


def test_with_both_missing_all_three_shares_count():
    choices = choose({"train": labels_of([50, 50])}, SHARES, DataConfig(), 3)
    assert [len(choice.indices) for choice in choices.values()] == [80, 10, 10]


def test_counts_keep_samples_of_all_classes_and_not_the_first_ones():
    labels = {name: np.sort(labels_of([40, 20, 20])) for name in ("train", "validation", "test")}
    counts = DataConfig(num_training_images=8, num_validation_images=4, num_test_images=12)
    choices = choose(labels, SHARES, counts, 0)
    chosen = [np.bincount(labels[name][choices[name].indices]).tolist() for name in choices]
    assert chosen[0] == [4, 2, 2]
    assert chosen[1] in ([2, 1, 1], [1, 2, 1], [1, 1, 2])
    assert chosen[2] == [6, 3, 3]


def test_targets_of_a_regression_are_split_as_one_class():
    choices = choose({"train": np.zeros((20, 2), np.float32)}, SHARES, DataConfig(), 0)
    assert [len(choice.indices) for choice in choices.values()] == [16, 2, 2]


@pytest.mark.parametrize(
    ("field", "flag"),
    [
        ("num_training_images", "nb_smpls_train"),
        ("num_validation_images", "nb_smpls_val"),
        ("num_test_images", "nb_smpls_eval"),
    ],
)
def test_a_count_above_what_is_there_names_its_flag(field, flag):
    labels = {name: labels_of([3, 3]) for name in ("train", "validation", "test")}
    choose(labels, SHARES, DataConfig(**{field: 6}), 0)
    with pytest.raises(InputError, match=f"--{flag} must be at most 6, .* Received: 7"):
        choose(labels, SHARES, DataConfig(**{field: 7}), 0)


@pytest.mark.parametrize("shares", [(0.9, 0.0, 0.1), (0.9, 0.1, 0.0)])
def test_a_split_without_samples_is_an_error_where_the_data_has_none_of_its_own(shares):
    lacking = "validation" if shares[1] == 0 else "test"
    with pytest.raises(InputError, match=f"--own_split must leave at least one sample for {lacking}.*of 20 samples"):
        choose({"train": labels_of([10, 10])}, shares, DataConfig(), 0)
    choose({"train": labels_of([10, 10]), lacking: labels_of([1, 1])}, shares, DataConfig(), 0)


def source_of(**labels):
    return OwnSource(
        {}, {part: np.int32(values) for part, values in labels.items()}, ("cat", "dog", "eel", "fox", "gnu")
    )


def test_classes_that_training_lacks_are_named():
    check_classes(source_of(train=[0, 1, 2], test=[0, 0], validation=[2]))
    with pytest.raises(
        InputError, match="classes of test must all be in training.*2 that training lacks, 'eel', 'gnu'"
    ):
        check_classes(source_of(train=[0, 1, 3], test=[4, 1, 2, 4]))
    with pytest.raises(InputError, match="classes of validation.*'dog'"):
        check_classes(source_of(train=[0, 2], test=[0], validation=[1]))


def test_one_class_is_too_few():
    with pytest.raises(InputError, match=r"at least 2 classes. Received: 1 in training \('dog'\)"):
        check_classes(source_of(train=[1, 1], test=[1]))


def test_long_lists_of_names_are_shortened():
    assert shortened(["a", "b", "c"]) == "a, b, c"
    assert shortened(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
