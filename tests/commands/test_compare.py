import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands.compare import USAGE, parse_words
from export.comparison import write_comparison
from tests.export.comparison.small_runs import exports_of, file_row, write_accuracy, write_run
from utils.errors import InputError, RunError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def places(tmp_path):
    return [
        write_accuracy(
            tmp_path / "family" / f"ratio_{ratio}", accuracy, {"ws_prune_ratio": ratio},
            exports=exports_of(file_row("litert", size, accuracy, 1.0)),
        )
        for ratio, accuracy, size in ((0.5, 0.91, 200_000), (0.9, 0.89, 100_000))
    ]  # fmt: skip


def refused(words):
    with pytest.raises(InputError) as error:
        parse_words(words)
    return str(error.value)


def test_the_words_are_runs_and_an_output():
    assert parse_words(["a", "b", "--output", "c"]) == ([Path("a"), Path("b")], Path("c"))
    assert parse_words(["--output=c", "a", "b"]) == ([Path("a"), Path("b")], Path("c"))
    assert parse_words(["a", "--debug", "b"]) == ([Path("a"), Path("b")], None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "at least two runs to compare. Received: nothing"),
        (["a"], "at least two runs to compare. Received: a"),
        (["a", "b", "--output"], "--output must be given once, with a directory. Received: --output"),
        (["a", "b", "--output="], "--output must be given once"),
        (["a", "b", "--output", "c", "--output", "d"], "Received: --output c --output d"),
        (["a", "b", "--outpt=c"], "compare knows no flag --outpt: there is --output DIR"),
        (["a", "b", "-x"], "compare knows no flag -x"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(words, told):
    assert told in refused(words)


def test_paths_are_from_where_the_user_stands(monkeypatch, tmp_path):
    monkeypatch.setenv("TRIMFLOW_CALLER_DIRECTORY", str(tmp_path))
    assert parse_words(["a", "/b", "--output", "c"]) == ([tmp_path / "a", Path("/b")], tmp_path / "c")


def test_files_of_an_earlier_comparison_are_passed_over(places, tmp_path):
    write_comparison(places)
    words = list(map(str, sorted((tmp_path / "family").iterdir())))
    assert len(words) == 5
    assert parse_words(words).runs == places


def test_the_program_prints_the_table_and_says_where_the_files_are(run_program, places, tmp_path):
    text = run_program(["main.py", "compare", *map(str, places)])
    assert "ratio_0.9" in text
    assert f"{tmp_path / 'family' / 'compare.html'} (and compare.md, compare.json beside it)" in text
    assert {path.name for path in (tmp_path / "family").iterdir()} == {
        "ratio_0.5", "ratio_0.9", "compare.html", "compare.md", "compare.json",
    }  # fmt: skip


def test_the_program_tells_its_usage(run_program):
    assert run_program(["main.py", "compare", "--help"]) == USAGE + "\n"


def test_a_mistake_is_one_message_and_writes_nothing(run_program, places, tmp_path):
    message = run_program(["main.py", "compare", *map(str, places), str(tmp_path / "none")], 2)
    assert message == f"error: there is no run directory {tmp_path / 'none'}\n"
    assert len(list((tmp_path / "family").iterdir())) == 2


def test_it_loads_no_tensorflow(places):
    code = (
        "import sys, main\n"
        "try:\n    main.run(sys.argv)\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, "compare", *map(str, places)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# The files.


def test_the_files_go_where_all_runs_are_else_where_the_user_stands(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write_comparison(places) == tmp_path / "family" / "compare.html"
    elsewhere = write_run(tmp_path / "elsewhere" / "run")
    assert write_comparison([*places, elsewhere]) == tmp_path / "compare.html"
    assert write_comparison(places, tmp_path / "new" / "one") == tmp_path / "new" / "one" / "compare.html"


def test_the_record_has_runs_groups_and_fronts(places, tmp_path):
    same = write_accuracy(tmp_path / "c", 0.93, {"ws_prune_ratio": 0.5, "seed": 1})
    write_comparison([*places, same], tmp_path / "out")
    record = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (record["dataset"], record["metric"]) == ("digits32", "accuracy")
    assert set(record["varying"]) == {"ws_prune_ratio", "seed"}
    assert record["same"] == {"net": "resnet_20_at_digits32", "learner": "weight-sparse", "batch_size": 128}
    first = record["runs"][0]
    assert first["directory"] == "../family/ratio_0.5"
    assert first["config"] == {"seed": 0, "ws_prune_ratio": 0.5}
    assert (first["accuracy"], first["flops_real"], first["total_seconds"]) == (0.91, 4_001_280, 135.0)
    assert first["smallest"]["bytes"] == first["bytes"]["litert"] == 200_000
    assert first["group"] == record["groups"][0]["name"] == "ws_prune_ratio 0.5"
    assert record["groups"][0]["seeds"] == [0, 1]
    assert record["groups"][0]["accuracy"]["mean"] == pytest.approx(0.92)
    assert record["groups"][0]["fronts"] == ["bytes", "flops", "latency"]
    assert record["runs"][1]["fronts"] == record["groups"][1]["fronts"] == ["bytes"]
    points = record["fronts"]["flops"]["points"]
    assert [(point["group"], point["is_member"]) for point in points] == [
        ("ws_prune_ratio 0.5", True), ("family/ratio_0.9", False),
    ]  # fmt: skip


def test_an_output_that_is_a_file_is_refused(places, tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"--output must be a directory. Received: .*file is a file"):
            write_comparison(places, output)


def test_a_disk_that_refuses_keeps_the_old_file(places, tmp_path, monkeypatch):
    page = write_comparison(places)
    before = {path: path.read_bytes() for path in page.parent.glob("compare.*")}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*compare.json: No space left on device; the last good"):
        write_comparison(places)
    assert {path: path.read_bytes() for path in page.parent.glob("compare.*")} == before
    assert not list(page.parent.glob(".compare*"))


def test_half_a_character_in_a_name_does_no_harm(tmp_path):
    places = [write_run(tmp_path / name, {"note": f"\ud800{name}"}) for name in "ab"]
    page = write_comparison(places)
    assert "?a" in page.read_text(encoding="utf-8")


def test_some_hundred_runs_can_be_compared(tmp_path):
    places = [
        write_accuracy(tmp_path / f"{ratio}_{seed}", 1 - ratio / 200, {"seed": seed, "ws_prune_ratio": ratio / 100})
        for ratio in range(50)
        for seed in range(3)
    ]
    record = json.loads((write_comparison(places).parent / "compare.json").read_text())
    assert len(record["runs"]) == 150
    assert len(record["groups"]) == 50
    assert record["fronts"]["flops"]["points"][0]["accuracy"]["count"] == 3
