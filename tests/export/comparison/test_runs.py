import json
import math
import os

import pytest

from export.comparison.runs import read_runs, short_names
from tests.export.comparison.small_runs import CONFIG, REPORT, write_run
from utils.errors import InputError


def test_runs_are_read_in_the_order_given(tmp_path):
    places = [write_run(tmp_path / name, {"seed": seed}) for seed, name in enumerate("bca")]
    runs = read_runs(places)
    assert [run.name for run in runs] == ["b", "c", "a"]
    assert [run.config["seed"] for run in runs] == [0, 1, 2]
    assert runs[0].config == CONFIG
    assert runs[0].report == REPORT
    assert runs[0].metric == "accuracy"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["one/run", "two/run"], ["one/run", "two/run"]),
        (["runs/a", "runs/b/c"], ["a", "b/c"]),
        (["family", "family/dense"], ["family", "dense"]),
        (["./x/../a", "b/"], ["a", "b"]),
    ],
)
def test_names_are_as_short_as_tells_runs_apart(tmp_path, monkeypatch, paths, names):
    monkeypatch.chdir(tmp_path)
    assert short_names(list(map(tmp_path.__class__, paths))) == names


def test_a_name_that_is_no_text_is_shown_as_far_as_it_can_be(tmp_path):
    place = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    runs = read_runs([write_run(tmp_path.__class__(place)), write_run(tmp_path / "b")])
    assert runs[0].name == "caf\N{REPLACEMENT CHARACTER}"


def refused(*places):
    with pytest.raises(InputError) as error:
        read_runs(list(places))
    return str(error.value)


def test_fewer_than_two_runs_are_refused(tmp_path):
    assert refused() == "there must be at least two runs to compare. Received: none"
    assert f"Received: {tmp_path}" in refused(tmp_path)


def test_the_same_run_given_twice_is_refused_under_any_of_its_names(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert f"Received twice: {a}" in refused(a, b, a)
    link = tmp_path / "link"
    link.symlink_to(a)
    assert f"Received twice: {link} (as {a})" in refused(a, b, link)


def test_each_directory_without_a_finished_run_is_named_with_what_to_do(tmp_path):
    good = write_run(tmp_path / "good")
    begun = write_run(tmp_path / "begun")
    (begun / "report.json").unlink()
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file"
    file.write_text("")
    bare = write_run(tmp_path / "bare")
    (bare / "config.json").unlink()
    message = refused(good, begun, empty, file, bare, tmp_path / "none")
    assert message.splitlines() == [
        f"the run in {begun} is not finished: the command that began it goes on with it",
        f"there is no run in {empty}: it has no report.json",
        f"a run to compare must be a directory. Received: {file}, which is a file",
        f"there is no run in {bare}: it has no config.json",
        f"there is no run directory {tmp_path / 'none'}",
    ]


def test_a_directory_that_holds_runs_names_them(tmp_path):
    for number in range(10):
        write_run(tmp_path / "family" / f"ratio_{number}")
    message = refused(tmp_path / "family", write_run(tmp_path / "other"))
    assert "is no run but holds some" in message
    assert message.endswith("ratio_6, ratio_7 ...")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("report.json", '{"model": ', "cannot be read"),
        ("config.json", "{", "cannot be read"),
        ("config.json", "[1]", "must hold names and values. Received: list"),
        ("report.json", "null", "must hold names and values. Received: NoneType"),
        ("report.json", '{"model": "resnet_20"}', "is not a whole report"),
        ("report.json", json.dumps(REPORT | {"dense": 3}), "is not a whole report"),
        ("report.json", json.dumps(REPORT | {"exports": [1]}), "is not a whole report"),
        ("report.json", json.dumps(REPORT | {"dense": {"accuracy": math.nan}}), "NaN is no finite number"),
        ("report.json", json.dumps(REPORT | {"compressed": None, "dense": {"accuracy": "0.9"}}), "must be a number"),
        ("report.json", json.dumps(REPORT | {"seed": [1]}), "seed must be a number. Received: [1]"),
        ("report.json", json.dumps(REPORT | {"model": 5}), "model must be text. Received: 5"),
        ("report.json", json.dumps(REPORT | {"versions": []}), "is not a whole report"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text, told):
    good, bad = write_run(tmp_path / "good"), write_run(tmp_path / "bad")
    (bad / name).write_text(text)
    message = refused(good, bad)
    assert str(bad / name) in message
    assert told in message


def test_runs_on_other_data_or_with_another_metric_are_refused_and_both_are_named(tmp_path):
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", dataset="cifar10", data_title="CIFAR-10")
    c = write_run(tmp_path / "c", metric="minus normalised error")
    assert refused(a, b) == (
        f"runs of different data sets cannot be ranked together. Received: digits32 ({a}), cifar10 ({b})"
    )
    assert refused(a, c) == (
        f"runs of different metrics cannot be ranked together. Received: accuracy ({a}), minus normalised error ({c})"
    )


def test_other_networks_on_the_same_data_may_be_compared(tmp_path):
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", {"net": "vgg_at_digits32"}, model="vgg")
    assert [run.report["model"] for run in read_runs([a, b])] == ["resnet_20", "vgg"]
