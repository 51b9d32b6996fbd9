import statistics

import pytest

from export.comparison.comparison import compare_runs
from export.comparison.differences import find_differences
from export.comparison.groups import spread_of
from export.comparison.runs import read_runs
from tests.export.comparison.small_runs import exports_of, file_row, write_accuracy, write_run


def compared(*places):
    return compare_runs(read_runs(places))


def front_of(comparison, key):
    """Names of the groups on a front."""
    (front,) = (front for front in comparison.fronts if front.cost.key == key)
    return [comparison.groups[number].name for number in sorted(front.members)]


# What differs.


def test_flags_vary_are_the_same_or_are_only_in_some_runs():
    configs = [
        {"seed": 0, "ratio": 0.5, "batch": 128, "old": 1},
        {"seed": 0, "ratio": 0.9, "batch": 128, "solver": "sgd"},
        {"seed": 0, "ratio": 0.9, "batch": 128, "solver": "sgd", "exact": True},
    ]
    found = find_differences(configs)
    assert found.varying == ["ratio"]
    assert found.same == {"seed": 0, "batch": 128}
    assert found.partial == {"old": 1, "solver": "sgd", "exact": True}


def test_a_flag_that_varies_among_those_that_have_it_varies():
    assert find_differences([{}, {"a": 1}, {"a": 2}]).varying == ["a"]


def test_true_and_one_are_different_values():
    assert find_differences([{"a": True}, {"a": 1}]).varying == ["a"]


# Seeds.


def test_runs_that_differ_in_the_seed_alone_are_one_group(tmp_path):
    places = [
        write_accuracy(tmp_path / f"{ratio}_{seed}", accuracy, {"seed": seed, "ws_prune_ratio": ratio})
        for ratio, accuracies in ((0.5, (0.90, 0.91, 0.95)), (0.9, (0.8, 0.7)))
        for seed, accuracy in enumerate(accuracies)
    ]
    alone = write_accuracy(tmp_path / "alone", 0.5, {"ws_prune_ratio": 0.99})
    comparison = compared(*places, alone)
    assert [group.name for group in comparison.groups] == ["ws_prune_ratio 0.5", "ws_prune_ratio 0.9", "alone"]
    assert [group.members for group in comparison.groups] == [(0, 1, 2), (3, 4), (5,)]
    assert [comparison.group_of(run) for run in range(6)] == [0, 0, 0, 1, 1, 2]
    (front,) = (front for front in comparison.fronts if front.cost.key == "flops")
    assert front.points[0].accuracy == pytest.approx((0.92, 0.90, 0.95, 3, 0.0152753), abs=1e-6)
    assert front.points[1].accuracy.standard_error is None
    assert front.points[1].accuracy.mean == pytest.approx(0.75)


def test_the_standard_error_is_the_textbook_one():
    values = [0.9, 0.91, 0.95, 0.97]
    spread = spread_of(values)
    assert spread.standard_error == pytest.approx(statistics.stdev(values) / 2)
    assert spread_of(values[:2]).standard_error is None
    assert spread_of([0.5]) == (0.5, 0.5, 0.5, 1, None)


def test_a_repetition_of_a_seed_is_no_new_evidence(tmp_path):
    accuracies = {"a": (0, 0.8), "b": (0, 0.8), "c": (0, 0.8), "d": (1, 0.6)}
    comparison = compared(*(write_accuracy(tmp_path / n, acc, {"seed": s}) for n, (s, acc) in accuracies.items()))
    point = comparison.fronts[0].points[0]
    assert point.accuracy == pytest.approx((0.7, 0.6, 0.8, 2, None))
    assert "a, b, c are repetitions with the same configuration and seed 0; they count once." in comparison.notes


def test_another_split_of_own_data_by_another_seed_is_the_same_group_with_a_note(tmp_path):
    a = write_run(tmp_path / "a", {"seed": 0, "own_data": "content 111"})
    b = write_run(tmp_path / "b", {"seed": 1, "own_data": "content 222"})
    comparison = compared(a, b)
    assert len(comparison.groups) == 1
    assert any("not all of the same test samples, as another seed" in note for note in comparison.notes)


def test_another_network_or_learner_is_another_group(tmp_path):
    a = write_run(tmp_path / "a", {"seed": 0})
    b = write_run(tmp_path / "b", {"seed": 1}, model="resnet_56")
    assert len(compared(a, b).groups) == 2


def test_groups_that_differ_in_what_only_some_runs_have_are_told_apart_by_a_run(tmp_path):
    a, b = (write_run(tmp_path / f"old_{seed}", {"seed": seed}) for seed in range(2))
    c, d = (write_run(tmp_path / f"new_{seed}", {"seed": seed, "new_flag": 1}) for seed in range(2))
    assert [group.name for group in compared(a, b, c, d).groups] == ["resnet_20 (old_0 ...)", "resnet_20 (new_0 ...)"]


# Fronts.


def test_without_exported_files_size_is_that_of_the_gzipped_weights(tmp_path):
    a = write_accuracy(tmp_path / "a", 0.9, {"ws_prune_ratio": 0.5}, sizes={"gzip_bytes": 300})
    b = write_accuracy(tmp_path / "b", 0.8, {"ws_prune_ratio": 0.9}, sizes={"gzip_bytes": 100})
    c = write_accuracy(tmp_path / "c", 0.7, {"ws_prune_ratio": 0.95}, sizes={"gzip_bytes": 200})
    comparison = compared(a, b, c)
    assert [front.cost.key for front in comparison.fronts] == ["bytes", "flops"]
    assert "gzipped" in comparison.fronts[0].cost.title
    assert front_of(comparison, "bytes") == ["a", "b"]
    assert front_of(comparison, "flops") == ["a"]  # all cost the same there
    assert comparison.fronts_of(0) == ["bytes", "flops"]
    assert comparison.fronts_of(2) == []


def test_a_file_is_ranked_by_its_own_accuracy(tmp_path):
    a = write_accuracy(
        tmp_path / "a", 0.90, {"ws_prune_ratio": 0.5}, exports=exports_of(file_row("int8", 100, 0.892, 0.5))
    )
    b = write_accuracy(
        tmp_path / "b", 0.895, {"ws_prune_ratio": 0.9}, exports=exports_of(file_row("int8", 100, 0.895, 0.6))
    )
    comparison = compared(a, b)
    assert front_of(comparison, "bytes") == ["b"]  # though the model of a is the more accurate one
    assert front_of(comparison, "latency") == ["a", "b"]
    assert front_of(comparison, "flops") == ["a"]


def test_a_run_without_files_is_left_out_of_their_fronts_and_told_how_to_get_them(tmp_path):
    a = write_run(tmp_path / "a", exports=exports_of(file_row("litert", 100, 0.88, 1.0)))
    b = write_run(tmp_path / "b", {"ws_prune_ratio": 0.5})
    comparison = compared(a, b)
    assert front_of(comparison, "bytes") == ["a"]
    assert [len(front.points) for front in comparison.fronts] == [1, 2, 1]
    assert any(note.startswith("b has no exported files") and "main.py export" in note for note in comparison.notes)


def test_a_group_is_ranked_by_means_over_the_same_runs(tmp_path):
    a = write_accuracy(tmp_path / "a", 0.9, {"seed": 0}, exports=exports_of(file_row("litert", 100, 0.9, 1.0)))
    b = write_accuracy(tmp_path / "b", 0.5, {"seed": 1})
    point = compared(a, b).fronts[0].points[0]
    assert (point.accuracy.mean, point.cost.mean) == (0.9, 100)


def test_a_mean_that_is_equal_but_for_its_last_binary_digit_is_equal(tmp_path):
    assert (0.8 + 0.9) / 2 > 0.85
    a, b = (write_accuracy(tmp_path / str(s), acc, {"seed": s}) for s, acc in enumerate((0.8, 0.9)))
    c = write_accuracy(tmp_path / "c", 0.85, {"ws_prune_ratio": 0.5})
    assert compared(a, b, c).fronts[0].members == {0, 1}


# What a reader must know.


def test_latencies_of_different_machines_are_not_ranked(tmp_path):
    rows = file_row("litert", 100, 0.88, 1.0)
    a = write_run(tmp_path / "a", exports=exports_of(rows, machine="two cores"))
    b = write_run(tmp_path / "b", {"ws_prune_ratio": 0.5}, exports=exports_of(rows, machine="a GPU"))
    comparison = compared(a, b)
    assert [front.cost.key for front in comparison.fronts] == ["bytes", "flops"]
    assert any("different machines" in note and "two cores (a); a GPU (b)" in note for note in comparison.notes)


def test_other_versions_and_test_sets_are_told(tmp_path):
    versions = [{"trimflow": "0.1.0", "tensorflow": "2.21.0"}] * 4 + [{"trimflow": "0.1.0", "tensorflow": "2.22.0"}]
    places = [
        write_run(tmp_path / f"r{i}", {"seed": i, "nb_smpls_eval": 100 * (i > 3)}, versions=v)
        for i, v in enumerate(versions)
    ]
    notes = compared(*places).notes
    assert "Runs were made with different versions of tensorflow: 2.21.0 (r0, r1, r2, r3); 2.22.0 (r4)." in notes
    assert any("test sets of different size: nb_smpls_eval 0 (r0" in note for note in notes)
    assert not any("of trimflow" in note for note in notes)


def test_runs_that_are_alike_need_no_notes_but_of_exports(tmp_path):
    rows = exports_of(file_row("litert", 100, 0.88, 1.0))
    places = [write_run(tmp_path / str(seed), {"seed": seed}, exports=rows) for seed in range(3)]
    assert compared(*places).notes == []


@pytest.mark.parametrize(("time", "front"), [(0.1322, ["a"]), (0.1249, ["a", "b"])])
def test_latencies_that_are_equal_in_two_digits_are_as_fast(tmp_path, time, front):
    a, b = (
        write_accuracy(
            tmp_path / name, accuracy, {"ws_prune_ratio": ratio}, exports=exports_of(file_row("int8", 9, accuracy, ms))
        )
        for name, accuracy, ratio, ms in (("a", 0.9, 0.5, 0.1346), ("b", 0.8, 0.9, time))
    )
    assert front_of(compared(a, b), "latency") == front
