import copy
import io
import json

import numpy as np
import pytest

from export.report import (
    format_table,
    print_exports,
    print_report,
    read_report,
    summary_sentence,
    write_report,
)
from export.report_tables import duration
from utils.errors import InputError

PRUNED = {
    "model": "resnet20",
    "dataset": "digits32",
    "data_title": "digits32 (embedded, not CIFAR-10)",
    "learner": "weight-sparse",
    "seed": 3,
    "versions": {"trimflow": "0.1.0", "tensorflow": "2.21.0"},
    "dense": {"accuracy": 0.9312},
    "compressed": {"accuracy": 0.9265, "sparsity": 0.72},
    "layers": [
        {
            "path": "layer1.0.conv1/kernel",
            "shape": [3, 3, 16, 16],
            "parameters": 2304,
            "target_ratio": 0.9,
            "sparsity": 0.875,
            "flops_dense": 4_718_592,
            "flops_sparse": 589_824,
        },
        {
            "path": "fc/kernel",
            "shape": [64, 9],
            "parameters": 576,
            "target_ratio": 0.1,
            "sparsity": 0.1,
            "flops_dense": 1152,
            "flops_sparse": 1037,
        },
    ],
    "search": {
        "protocol": "optimal",
        "rollouts": 200,
        "seconds": 63.4,
        "seconds_per_rollout": 0.317,
        "best_reward": 0.8987,
        "dense_step_seconds": 0.1,
        "dense_step_equivalents": 634.0,
    },
    "training": {"iterations": 1200, "seconds": 112.0, "images_per_second": 1371.0},
    "sizes": {"dense_bytes": 1_100_000, "sparse_bytes": 330_000, "gzip_bytes": 275_000},
    "stages": [{"name": "dense training", "seconds": 60.0}, {"name": "search", "seconds": 180.0}],
    "notes": ["the finalist of roll-out 201"],
}
DENSE = {
    **PRUNED,
    "dataset": "cifar10",
    "data_title": "CIFAR-10",
    "learner": "full-prec",
    "compressed": None,
    "layers": [{**layer, "target_ratio": 0.0, "sparsity": 0.0} for layer in PRUNED["layers"]],
    "search": None,
    "notes": [],
}


MAY_BE_ABSENT = {"compressed": None, "search": None, "training": None, "layers": []}


def changed(place, value):
    """PRUNED with the value at `place` (a list of keys) replaced, or removed where it is None."""
    report = copy.deepcopy(PRUNED)
    *parents, last = place
    part = report
    for key in parents:
        part = part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return report


@pytest.mark.parametrize("report", [PRUNED, DENSE])
def test_a_report_is_read_as_it_was_written(tmp_path, report):
    path = write_report(tmp_path, report)
    assert path == tmp_path / "report.json"
    assert read_report(tmp_path) == report
    assert list(json.loads(path.read_text())) == list(report)


@pytest.mark.parametrize(
    "place",
    [
        *([key] for key in PRUNED if key not in (*MAY_BE_ABSENT, "notes")),
        *([part, key] for part in ("dense", "compressed", "search", "training", "sizes") for key in PRUNED[part]),
        *(["layers", 1, key] for key in PRUNED["layers"][1]),
        *(["stages", 0, key] for key in PRUNED["stages"][0]),
    ],
    ids=lambda place: ".".join(map(str, place)),
)
def test_every_key_of_the_fixed_set_is_required(tmp_path, place):
    with pytest.raises(ValueError, match=str(place[-1])):
        write_report(tmp_path, changed(place, None))


def test_what_a_run_did_not_do_is_null_in_its_report(tmp_path):
    bare = {key: value for key, value in DENSE.items() if key not in MAY_BE_ABSENT}
    write_report(tmp_path, bare)
    assert read_report(tmp_path) == {**bare, **MAY_BE_ABSENT}
    assert "93.12%" in format_table(bare)
    assert "Layers" not in format_table(bare)
    assert "93.12%" in summary_sentence(bare)


def test_the_keys_others_read_are_the_documented_ones(tmp_path):
    report = json.loads(write_report(tmp_path, PRUNED).read_text())
    results = {"dense", "compressed", "layers", "search", "training", "sizes", "stages"}
    assert set(report) == results | {"model", "dataset", "data_title", "learner", "seed", "versions", "notes"}
    ratio_keys = {"path", "shape", "parameters", "target_ratio", "sparsity"}
    assert set(report["layers"][0]) == ratio_keys | {"flops_dense", "flops_sparse"}
    search_keys = {"protocol", "rollouts", "seconds", "seconds_per_rollout", "best_reward"}
    assert set(report["search"]) == search_keys | {"dense_step_seconds", "dense_step_equivalents"}
    assert set(report["training"]) == {"iterations", "seconds", "images_per_second"}


def test_numpy_numbers_become_plain_ones(tmp_path):
    write_report(tmp_path, changed(["dense", "accuracy"], np.float32(0.5)))
    assert read_report(tmp_path)["dense"]["accuracy"] == 0.5
    write_report(tmp_path, changed(["layers", 0, "shape"], (np.int64(3), 3, 16, 16)))
    assert read_report(tmp_path)["layers"][0]["shape"] == [3, 3, 16, 16]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
def test_a_number_that_is_not_finite_is_named_and_the_old_report_stays(tmp_path, value):
    write_report(tmp_path, PRUNED)
    with pytest.raises(
        ValueError, match=r"layers\[1\]\.sparsity in a report must be a finite number. Received: -?(nan|inf)"
    ):
        write_report(tmp_path, changed(["layers", 1, "sparsity"], value))
    assert read_report(tmp_path) == PRUNED
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_missing_or_damaged_report_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"has no report\.json"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text('{"model": "resnet20", ')
    with pytest.raises(InputError, match=r"report\.json is not a whole report"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text('{"model": "resnet20"}')
    with pytest.raises(InputError, match="not a whole report: data_title is missing"):
        read_report(tmp_path)


def test_the_table_of_a_pruned_run_has_every_layer_and_total():
    lines = format_table(PRUNED).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["layer1.0.conv1"] == ["3x3x16x16", "2,304", "90.00%", "87.50%", "4.72", "0.59"]
    assert rows["fc"] == ["64x9", "576", "10.00%", "10.00%", "0.00", "0.00"]
    # 2,304 and 576 parameters weigh 0.8 and 0.2: targets 0.74, removed 0.72.
    total = next(line.split() for line in lines if line.startswith("Total"))
    assert total == ["Total", "2,880", "74.00%", "72.00%", "4.72", "0.59"]
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "Test accuracy 93.12% 92.65% -0.47 points" in text
    assert "Sparsity of prunable weights 0.00% 72.00%" in text
    assert "dense float32 1,100,000 100.00%" in text
    assert "bitmap and non-zero values 330,000 30.00%" in text
    assert "dense, gzip 275,000 25.00%" in text
    assert "search 3 min 00 s 75.00%" in text
    assert "optimal, 200 roll-outs, best reward 0.8987, in 1 min 03 s (the time of 634 dense training steps)" in text
    assert "1,200 iterations in 1 min 52 s, 1,371 images/s" in text
    assert "Note: the finalist of roll-out 201" in text


def test_a_layer_without_a_target_leaves_the_total_without_one():
    layers = PRUNED["layers"]
    text = format_table({**PRUNED, "layers": [layers[0], {**layers[1], "target_ratio": None}]})
    rows = [line.split() for line in text.splitlines() if "%" in line]
    assert [row[3:5] for row in rows[:2]] == [["90.00%", "87.50%"], ["-", "10.00%"]]
    assert rows[2][:4] == ["Total", "2,880", "-", "72.00%"]


def test_the_table_of_a_dense_run_speaks_of_no_pruning():
    text = format_table(DENSE)
    assert "93.12%" in text
    assert "layer1.0.conv1" in text
    for word in ("Target", "Removed", "After", "Ratios", "Sparsity"):
        assert word not in text


def test_a_teacher_is_named_with_weight_and_temperature():
    learned = {"teacher": "resnet_56", "loss_weight": 4.0, "temperature": 2.5}
    assert "Teacher: resnet_56, weight 4, temperature 2.5." in format_table({**PRUNED, "distillation": learned})
    assert "Teacher" not in format_table(PRUNED)


def test_a_protocol_without_roll_outs_is_named_with_its_cost():
    search = {**PRUNED["search"], "protocol": "dp", "rollouts": 0, "best_reward": None, "seconds_per_rollout": None}
    assert "Ratios: dp, in 1 min 03 s (the time of 634 dense training steps)." in format_table(
        changed(["search"], search)
    )


def test_the_embedded_data_set_is_never_taken_for_cifar10():
    assert "NOT CIFAR-10" in format_table(PRUNED)
    assert "digits32 (embedded, not CIFAR-10)" in summary_sentence(PRUNED)
    assert "NOT CIFAR-10" not in format_table(DENSE)


def test_the_sentence_says_what_was_gained_and_lost():
    assert summary_sentence(PRUNED) == (
        "resnet20 on digits32 (embedded, not CIFAR-10): 72.00% of the prunable weights removed; "
        "test accuracy 93.12% before and 92.65% after (-0.47 points); 1,100 kB became 275 kB gzipped, in 4 min 00 s."
    )
    assert summary_sentence(DENSE) == (
        "resnet20 on CIFAR-10: test accuracy 93.12%, 1,100 kB (275 kB gzipped), in 4 min 00 s."
    )


def test_a_network_that_is_smaller_itself_says_so():
    thinned = copy.deepcopy(PRUNED)
    thinned["dense"]["flops"], thinned["compressed"]["flops"] = 1000, 400
    thinned["sizes"]["weights"] = 100_000
    assert "72.00% of the prunable weights removed, 60.00% fewer FLOPs; " in summary_sentence(thinned)
    assert "smaller network, float32 400,000 36.36%" in " ".join(format_table(thinned).split())
    assert "FLOPs;" not in summary_sentence(PRUNED)
    assert "smaller network" not in format_table(PRUNED)


def test_the_table_is_plain_ascii_that_fits_a_log_even_with_long_names():
    long = changed(["layers", 0, "path"], "stage4.block_with_a_long_name.17.projection.downsample.conv3x3/kernel" * 2)
    text = format_table(long)
    assert text.isascii()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 110


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return FakeTerminal()


def test_a_terminal_gets_styled_tables_of_its_own_width(terminal):
    print_report(PRUNED, terminal)
    text = terminal.getvalue()
    assert "\x1b[1m" in text
    assert "layer1.0.conv1" in text
    assert "3x3x16x16" in text


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_color_and_files_get_plain_text(terminal, monkeypatch, is_terminal):
    stream = terminal if is_terminal else io.StringIO()
    monkeypatch.setenv("NO_COLOR", "1")
    print_report(PRUNED, stream)
    assert stream.getvalue() == f"{format_table(PRUNED)}\n{summary_sentence(PRUNED)}\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (4.26, "4.3 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7830, "2 h 10 min"),
    ],
)
def test_durations_are_said_as_people_do(seconds, text):
    assert duration(seconds) == text


ROUNDS = [
    {"round": 0, "sparsity": 0.0, "accuracy": 0.9312, "validation_accuracy": 0.94, "seconds": 60.0},
    {"round": 1, "sparsity": 0.5528, "accuracy": 0.9350, "validation_accuracy": 0.93, "seconds": 90.0},
]


def test_rounds_of_a_lottery_ticket_have_a_table_of_their_own(tmp_path):
    report = PRUNED | {"rounds": ROUNDS}
    write_report(tmp_path, report)
    assert read_report(tmp_path)["rounds"] == ROUNDS
    lines = [line.split() for line in format_table(report).splitlines()]
    assert ["0", "(dense)", "0.00%", "93.12%", "94.00%", "1", "min", "00", "s"] in lines
    assert ["1", "55.28%", "93.50%", "+0.38", "points", "93.00%", "1", "min", "30", "s"] in lines
    assert "Rounds" not in format_table(PRUNED)


def test_a_round_without_its_figures_is_no_whole_report():
    with pytest.raises(ValueError, match=r"rounds\[1\]\.accuracy, rounds\[1\]\.round"):
        format_table(PRUNED | {"rounds": [ROUNDS[0], {"sparsity": 0.5, "validation_accuracy": 0.9, "seconds": 1.0}]})


def test_a_quality_that_is_no_accuracy_is_shown_by_its_name_as_a_plain_number():
    report = copy.deepcopy(PRUNED)
    report["metric"] = "minus normalised error"
    report["dense"]["accuracy"], report["compressed"]["accuracy"] = -0.08312, -0.1
    text = " ".join(format_table(report).split())
    assert "Test minus normalised error -0.0831 -0.1000 -0.0169" in text
    assert "72.00%" in text
    sentence = summary_sentence(report)
    assert "test minus normalised error -0.0831 before and -0.1000 after (-0.0169);" in sentence
    assert "test minus normalised error -0.0831, 1,100 kB" in summary_sentence({**report, "compressed": None})
    assert "accuracy" not in text + sentence


def test_the_share_among_the_five_largest_stands_beside_the_accuracy():
    report = copy.deepcopy(PRUNED)
    report["dense"] |= {"acc_top1": 0.9312, "acc_top5": 0.9951}
    report["compressed"] |= {"acc_top1": 0.9265, "acc_top5": 0.9901}
    report["search"]["reward_metric"] = "acc_top5"
    table = format_table(report)
    (row,) = (line.split() for line in table.splitlines() if "acc_top5  " in line)
    assert row[-4:] == ["99.51%", "99.01%", "-0.50", "points"]
    assert "best reward (acc_top5) 0.8987" in table
    assert "acc_top5" not in format_table(PRUNED)


MEASURED = {"median": 0.123, "low": 0.1, "high": 0.2}
EXPORTS = {
    "model_digest": "00",
    "images": 2_000,
    "machine": "2 cores, of some kind",
    "threads": 2,
    "seconds": 9.0,
    "dense": {
        "format": "dense",
        "title": "dense network, LiteRT float32",
        "bytes": 1_000_000,
        "accuracy": 0.9,
        "agreement": 1.0,
        "one_thread": MEASURED,
        "all_threads": MEASURED,
    },
    "formats": [
        {
            "format": "trim-16",
            "title": "TrimFlow, 16 values",
            "bytes": 27_000,
            "accuracy": 0.895,
            "agreement": 0.9712,
            "one_thread": None,
            "all_threads": None,
        },
        {"format": "onnx", "title": "ONNX", "refused": "its own runtime refuses it: no such operator"},
    ],
    "layers": [],
}


def printed_exports(changed):
    stream = io.StringIO()
    print_exports(PRUNED | {"exports": EXPORTS | changed}, stream)
    return [line.split() for line in stream.getvalue().splitlines()]


def test_the_table_of_exports_has_each_file_and_the_reason_of_one_that_was_refused():
    lines = printed_exports({})
    assert ["dense", "1,000,000", "100.00%", "90.00%", "100.0%", "0.123", "ms", "0.123", "ms"] in lines
    assert ["trim-16", "27,000", "2.70%", "89.50%", "97.1%", "-", "-"] in lines
    assert ["No", "onnx:", "its", "own", "runtime", "refuses", "it:", "no", "such", "operator"] in lines
    assert any("2,000" in line for line in lines)


def test_the_table_of_exports_fits_a_narrow_terminal():
    stream = io.StringIO()
    print_exports(PRUNED | {"exports": EXPORTS}, stream)
    assert max(map(len, stream.getvalue().splitlines()[:5])) <= 80


def test_the_last_sentence_says_what_there_is_to_take_away():
    stream = io.StringIO()
    print_report(PRUNED | {"exports": EXPORTS | {"formats": [EXPORTS["formats"][0] | {"accuracy": 0.92}]}}, stream)
    last = stream.getvalue().splitlines()[-1]
    assert "file 1.00 MB -> 0.027 MB (TrimFlow, 16 values)" in last
    assert last.isascii()
    stream = io.StringIO()
    dense = {key: value for key, value in DENSE.items() if key not in ("compressed", "search")}
    print_report(dense | {"exports": EXPORTS | {"formats": []}}, stream)  # as a full-prec run does
    assert stream.getvalue().splitlines()[-1].startswith("resnet20: accuracy 93.12%")
    stream = io.StringIO()
    print_report(PRUNED, stream)
    assert "->" not in stream.getvalue()


def test_one_core_has_no_second_column_of_times():
    assert ["trim-16", "27,000", "2.70%", "89.50%", "97.1%", "-"] in printed_exports({"threads": 1})


def test_a_regression_s_files_have_no_share_of_equal_classes():
    row = EXPORTS["formats"][0] | {"agreement": None}
    assert ["trim-16", "27,000", "2.70%", "89.50%", "-", "-", "-"] in printed_exports({"formats": [row]})
