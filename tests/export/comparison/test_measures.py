import pytest

from export.comparison.measures import measures_of
from tests.export.comparison.small_runs import exports_of, file_row, refused_row, report_of


def test_the_figures_of_a_run_by_hand():
    measures = measures_of(report_of())
    assert (measures.dense_accuracy, measures.accuracy, measures.sparsity) == (0.9, 0.88, 0.9)
    assert measures.change == pytest.approx(-0.02)
    assert (measures.flops_dense, measures.flops_sparse) == (4_001_280, 401_280)
    assert measures.flops_real == 4_001_280  # zeros are computed too
    assert (measures.search_seconds, measures.total_seconds) == (65.0, 135.0)
    assert measures.gzip_bytes == 140_000
    assert measures.files == {}
    assert measures.smallest is measures.fastest is measures.dense_file is None


def test_a_network_that_is_smaller_itself_computes_less():
    assert measures_of(report_of(compressed={"flops": 1_000_000})).flops_real == 1_000_000


def test_a_run_that_compressed_nothing_has_the_accuracy_of_the_dense_network():
    measures = measures_of(report_of(compressed=None, search=None))
    assert measures.accuracy == measures.dense_accuracy == 0.9
    assert measures.change is measures.sparsity is measures.search_seconds is None


def test_a_run_without_prunable_layers_has_the_flops_that_its_report_says_or_none():
    measures = measures_of(report_of(layers=[]))
    assert measures.flops_dense is measures.flops_sparse is measures.flops_real is None
    assert measures_of(report_of(layers=[], dense={"flops": 7})).flops_dense == 7


def test_only_sound_files_are_the_smallest_or_the_fastest():
    rows = [
        file_row("litert", 1_000_000, 0.88, 2.0),
        file_row("litert-int8", 300_000, 0.87, 0.9),  # one point lost: still sound
        file_row("tiny", 10_000, 0.8699, 0.1),
        file_row("trim", 90_000, 0.88),  # not to be run, so without a latency
        refused_row("litert-full-int8"),
    ]
    measures = measures_of(report_of(exports=exports_of(*rows)))
    assert measures.smallest.format == "trim"
    assert measures.fastest.format == "litert-int8"
    assert list(measures.files) == ["litert", "litert-int8", "tiny", "trim"]
    assert (measures.dense_file.bytes, measures.dense_file.one_thread["median"]) == (1_100_000, 2.0)


def test_a_run_all_of_whose_files_are_unsound_has_no_smallest():
    measures = measures_of(report_of(exports=exports_of(file_row("tiny", 10, 0.5, 0.1))))
    assert measures.smallest is measures.fastest is None
    assert measures.files["tiny"].bytes == 10
