"""`main.py export` and the end of a run: the files, the record of them, and every way they can be refused."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import main
import trimflow
from commands import command_line
from export.config import DEFAULT_FORMATS

ROOT = Path(__file__).resolve().parents[2]
TINY = "tests/nets_for_tests/tiny_at_cifar10_run.py"
FLAGS = """--data_disk embedded --model_http_url= --nb_smpls_train 320 --nb_smpls_val 100 --nb_smpls_eval 100
    --batch_size 32 --nb_epochs_rat 0.25 --learner weight-sparse --ws_prune_ratio_prtl uniform --ws_prune_ratio 0.75"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run that ended with two exports, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    printed = io.StringIO()
    words = ["main.py", TINY, "--run_dir", str(run_dir), *FLAGS.split(), "--export_formats", "litert,trim-256"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(ROOT)
        with pytest.raises(SystemExit) as stop:
            main.run(words)
    assert stop.value.code == 0
    return run_dir, printed.getvalue()


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def report_of(run_dir):
    return json.loads((run_dir / "report.json").read_text())


def test_a_run_ends_with_its_exports_in_report_and_on_screen(finished):
    run_dir, printed = finished
    exports = report_of(run_dir)["exports"]
    assert [row["format"] for row in exports["formats"]] == ["litert", "trim-256"]
    assert exports["images"] == 100
    assert "Files in exports/" in printed
    assert "Each was run over 100 test images" in printed
    assert printed.splitlines()[-1] == f"all of it is in {run_dir}; begin with report.html"
    assert report_of(run_dir)["stages"][-1]["name"] == "export"
    assert all((run_dir / row["file"]).is_file() for row in exports["formats"])
    assert {"report.html", "report.md"} <= {path.name for path in run_dir.iterdir()}
    for row in exports["formats"]:
        assert abs(row["accuracy"] - report_of(run_dir)["compressed"]["accuracy"]) < 0.03


def test_the_compact_file_is_loaded_by_one_call(finished):
    run_dir, _ = finished
    loaded = trimflow.load(run_dir / "exports" / "model.256.trim.npz")
    saved = keras.models.load_model(run_dir / "model.keras")
    images = np.random.default_rng(0).normal(size=(4, *saved.input_shape[1:])).astype("f4")
    assert np.abs(np.asarray(loaded(images)) - np.asarray(saved(images))).max() < 0.5
    for variable, kept in zip(saved.weights, loaded.weights, strict=True):
        if "kernel" in variable.path:
            assert np.array_equal(np.asarray(variable) == 0, np.asarray(kept) == 0)


def test_the_same_command_again_makes_no_export_twice(run_dir, run_program):
    before = report_of(run_dir)["exports"]
    stamps = {path: path.stat().st_mtime_ns for path in (run_dir / "exports").iterdir()}
    words = ["main.py", TINY, "--run_dir", str(run_dir), *FLAGS.split(), "--export_formats", "litert,trim-256"]
    run_program(words)
    assert report_of(run_dir)["exports"] == before
    assert {path: path.stat().st_mtime_ns for path in (run_dir / "exports").iterdir()} == stamps


def test_a_finished_run_is_exported_in_other_formats(run_dir, run_program):
    printed = run_program(["main.py", "export", str(run_dir), "--formats", "onnx,keras-folded", "--check_images", "30"])
    exports = report_of(run_dir)["exports"]
    assert [row["format"] for row in exports["formats"]] == ["keras-folded", "litert", "onnx", "trim-256"]
    assert exports["images"] == 30
    assert "onnx" in printed
    assert f"the files are in {run_dir / 'exports'}" in printed
    folded = keras.models.load_model(run_dir / "exports" / "model.folded.keras")
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    rows = {row["format"]: row for row in exports["formats"]}
    assert rows["keras-folded"]["largest_difference"] < 1e-4
    assert "onnx" in (run_dir / "report.html").read_text().lower()


def test_all_formats_are_made_of_a_real_run_and_none_is_refused(run_dir, run_program):
    run_program(["main.py", "export", str(run_dir), "--quiet"])
    rows = report_of(run_dir)["exports"]["formats"]
    assert [row["format"] for row in rows] == list(DEFAULT_FORMATS)
    assert [row["format"] for row in rows if "refused" in row] == []


def test_the_command_of_a_run_is_kept_as_it_was_given(finished):
    recorded = json.loads((finished[0] / command_line.COMMAND_FILE).read_text())
    assert recorded["script"] == TINY
    assert "--ws_prune_ratio=0.75" in recorded["flags"]
    assert not any(flag.startswith(("--run_dir", "--lrn_rate_init")) for flag in recorded["flags"])


# Bad input: code 2 or 1, one line, and nothing is changed.


@pytest.fixture
def refused(run_program, run_dir):
    """`refused(*words)`: the message of `main.py export`, which must change nothing in the run."""

    def run(*words, code=2):
        def state():
            return {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file()}

        before = state()
        message = run_program(["main.py", "export", *map(str, words)], code)
        assert state() == before
        return message

    return run


def test_an_unfinished_run_says_what_is_missing_and_how_to_go_on(refused, run_dir):
    (run_dir / "report.json").unlink()
    message = refused(run_dir)
    assert f"the run must be finished. Received: {run_dir}, which has no report.json; done: dense" in message
    assert f"The same command again goes on: python main.py {TINY} " in message
    assert "--ws_prune_ratio=0.75" in message
    (run_dir / "stages.json").unlink()
    assert "done: nothing" in refused(run_dir)


def test_a_run_of_another_version_is_named_with_both_versions(refused, run_dir):
    report = report_of(run_dir)
    report["versions"]["trimflow"] = "9.9"
    (run_dir / "report.json").write_text(json.dumps(report))
    assert f"this version of TrimFlow, 0.1.0. Received: {run_dir}, made by 9.9" in refused(run_dir)


def test_a_run_whose_command_is_not_known_says_how_to_make_it_known(refused, run_dir):
    (run_dir / command_line.COMMAND_FILE).write_text("{")
    assert "command.json is missing or damaged" in refused(run_dir)


def test_a_run_directory_with_another_configuration_than_its_command_is_refused(refused, run_dir):
    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(config | {"ws_prune_ratio": 0.5}))
    assert "--ws_prune_ratio: 0.5 there, 0.75 now" in refused(run_dir)


def test_a_directory_that_cannot_be_written_is_told(refused, run_dir):
    shutil.rmtree(run_dir / "exports")
    (run_dir / "exports").write_text("")
    assert "cannot write exports into" in refused(run_dir, code=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: RUN_DIR"),
        (["nowhere"], "a run directory has a config.json. Received: "),
        (["RUN", "--formats", "tflite"], "--formats must be none, or a comma list of all, keras"),
        (["RUN", "--check_images", "-1"], "--check_images must be at least 0. Received: -1"),
        (["RUN", "--check_images", "x"], "argument --check_images: invalid int value: 'x'"),
        (["RUN", "--format", "onnx"], "unrecognized arguments: --format onnx"),
        (["RUN", "RUN"], "each run can be named once"),
    ],
)
def test_a_wrong_command_line_is_named(refused, run_dir, words, message):
    assert message in refused(*(run_dir if word == "RUN" else word for word in words))


def test_help_names_every_format(run_program):
    printed = run_program(["main.py", "export", "--help"])
    assert all(name in printed for name in DEFAULT_FORMATS)


def test_a_wrong_flag_of_a_run_is_refused_before_any_work(run_program, tmp_path):
    words = ["main.py", TINY, "--run_dir", str(tmp_path / "new"), *FLAGS.split()]
    assert "--export_formats must be none, or" in run_program([*words, "--export_formats", "pickle"], 2)
    assert "--export_check_images must be at least 0" in run_program([*words, "--export_check_images=-1"], 2)
    assert not (tmp_path / "new").exists()
