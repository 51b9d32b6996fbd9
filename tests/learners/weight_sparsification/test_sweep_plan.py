"""What a sweep's command line means."""

from pathlib import Path

import pytest

from learners.weight_sparsification.config import WeightSparseConfig
from learners.weight_sparsification.sweep_plan import (
    Family,
    check_given,
    check_senseless,
    read_processes,
    read_ratios,
    search_of_a_member,
    take_option,
)
from utils.errors import InputError


@pytest.mark.parametrize(
    ("text", "ratios"),
    [("0.5,0.9", (0.5, 0.9)), ("0.9, .5 ,0", (0.9, 0.5, 0.0)), ("1e-1,1", (0.1, 1.0)), ("-0.0,0.5", (0.0, 0.5))],
)
def test_ratios_are_numbers_with_commas_between_them(text, ratios):
    assert read_ratios(text) == ratios


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "must be given to a sweep"),
        ("", "numbers with commas"),
        ("0.5,much", "numbers with commas between them. Received: '0.5,much'"),
        ("0.5,,0.9", "numbers with commas"),
        ("0.5;0.9", "numbers with commas"),
        ("0.5", "at least two ratios in a sweep. Received: '0.5'"),
        ("0.5,0.50", "each ratio once. Received: 0.50 twice"),
        ("0,-0", "each ratio once"),
        ("0.5,nan", "finite numbers"),
        ("0.5,inf", "finite numbers"),
    ],
)
def test_other_ratios_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        read_ratios(text)


@pytest.mark.parametrize(("text", "count"), [(None, 0), ("1", 1), ("12", 12)])
def test_a_number_of_processes(text, count):
    assert read_processes(text) == count


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5", "99999"])
def test_other_numbers_of_processes_are_refused(text):
    with pytest.raises(InputError, match="--sweep_processes must be a number of members at a time"):
        read_processes(text)


@pytest.mark.parametrize("words", [["--a", "1"], ["--a=1"], ["-a=1"], ["-a", "1"]])
def test_an_option_is_taken_in_each_form_and_the_rest_stays(words):
    assert take_option(["net", "--b", *words, "--ab=2"], "a") == ("1", ["net", "--b", "--ab=2"])


def test_a_word_without_dashes_is_no_option():
    assert take_option(["a", "a=3"], "a") == (None, ["a", "a=3"])


@pytest.mark.parametrize(("words", "message"), [(["--a=1", "--a=2"], "given once"), (["--a"], "have a value")])
def test_an_option_twice_or_without_value_is_refused(words, message):
    with pytest.raises(InputError, match=message):
        take_option(words, "a")


@pytest.mark.parametrize("word", ["-n=4", "-n", "--nb_gpus=2", "-H", "--hostfile=h"])
def test_options_for_many_processes_are_refused(word):
    with pytest.raises(InputError, match="--sweep_processes says how many of them run at a time"):
        check_senseless(["--seed=1", word])


@pytest.mark.parametrize(
    ("given", "learner", "message"),
    [
        ({"learner": "--learner=scheduled"}, "scheduled", "--learner must be weight-sparse in a sweep"),
        ({"exec_mode": "--exec_mode=eval"}, "full-prec", "--exec_mode makes no sense in a sweep"),
        ({"enbl_multi_gpu": "--enbl_multi_gpu"}, "full-prec", "--sweep_processes"),
        ({"ws_save_path": "--ws_save_path=a.keras"}, "full-prec", "same file"),
        ({"save_path_eval": "--save_path_eval=a.keras"}, "full-prec", "--save_path_eval makes no sense"),
    ],
)
def test_flags_that_make_no_sense_are_refused(given, learner, message):
    with pytest.raises(InputError, match=message):
        check_given(given, learner)


def test_flags_that_say_what_a_sweep_does_anyway_are_fine():
    given = {
        "learner": "--learner=weight-sparse",
        "exec_mode": "--exec_mode=train",
        "enbl_multi_gpu": "--noenbl_multi_gpu",
    }
    check_given(given, "weight-sparse")


def _family(*words, search=None):
    given = {word.lstrip("-").partition("=")[0]: word for word in words}
    return Family("nets/net_run.py", Path("/family"), given, search or {})


def test_a_member_has_the_family_s_flags_and_what_it_shares():
    given = ("--seed=3", "--ws_nb_iters_ft=4", "--quiet", "--overwrite", "--run_dir=/family")
    member = _family(*given, search={"ws_nb_rlouts": 20}).member(0.9)
    assert member.name == "ratio_0.9"
    assert member.run_dir == Path("/family/ratio_0.9")
    assert member.words == (
        "nets/net_run.py", "--seed=3", "--ws_nb_iters_ft=4", "--learner=weight-sparse", "--ws_prune_ratio=0.9",
        "--run_dir=/family/ratio_0.9", "--ws_paths=/family/paths.npz", "--save_path=/family/dense/model.keras",
        "--ws_nb_rlouts=20", "--export_formats=none",
    )  # fmt: skip


def test_a_network_that_is_trained_already_is_not_given_by_a_file():
    assert not any(word.startswith("--save_path") for word in _family().member(0.5, shares_dense=False).words)


def test_paths_that_lie_elsewhere_are_taken_from_there():
    words = _family("--ws_paths=/else/where.npz").member(0.5).words
    assert [word for word in words if word.startswith("--ws_paths")] == ["--ws_paths=/else/where.npz"]


def test_the_dense_run_gets_what_is_of_network_and_data_alone():
    family = _family(
        "--seed=3", "--ws_nb_iters_ft=4", "--ddpg_tau=0.1", "--enbl_dst", "--loss_w_dst=2", "--save_path=mine.keras",
        "--noenbl_warm_start",
    )  # fmt: skip
    assert family.dense().words == (
        "nets/net_run.py", "--seed=3", "--save_path=mine.keras", "--noenbl_warm_start", "--learner=full-prec",
        "--run_dir=/family/dense", "--export_formats=none",
    )  # fmt: skip


def test_each_run_has_tensorboard_s_events_in_a_folder_of_its_own():
    family = _family("--log_dir=events")
    assert "--log_dir=events/ratio_0.5" in family.member(0.5).words
    assert "--log_dir=events/dense" in family.dense().words
    assert "--log_dir=events" not in family.member(0.5).words


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        ({}, {}, {"ws_nb_rlouts": 20, "ws_nb_finalists": 2, "ws_nb_iters_ft": 130}),
        ({"ws_nb_rlouts": "--ws_nb_rlouts=200"}, {}, {"ws_nb_finalists": 2, "ws_nb_iters_ft": 130}),
        ({"ws_nb_iters_ft": "", "ws_nb_finalists": ""}, {}, {"ws_nb_rlouts": 20}),
        ({}, {"prune_ratio_protocol": "dp"}, {}),
        ({}, {"min_rollouts": 21}, {"ws_nb_finalists": 2, "ws_nb_iters_ft": 130}),
    ],
)
def test_a_member_s_search_is_shorter_unless_it_was_said(given, options, expected):
    alone = WeightSparseConfig()
    assert (alone.num_rollouts, alone.num_finalists, alone.fine_tuning_iterations) == (200, 3, 400)
    assert search_of_a_member(given, WeightSparseConfig(**options)) == expected
