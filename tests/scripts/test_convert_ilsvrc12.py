"""scripts/convert_ilsvrc12.py: its command line, what it says, its exit codes, and a kill in the middle."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasets.ilsvrc12.conversion import convert
from datasets.ilsvrc12.conversion_source import list_pictures, plan_shards
from tests.raw_ilsvrc12 import BAD, content, encoded, write_raw

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "convert_ilsvrc12.py"
SHARDS = ["--train_shards", "3", "--validation_shards", "2"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("convert_ilsvrc12", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script, monkeypatch, capsys):
    """`run(*arguments)`: exit code, output and errors of the program in this process."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        try:
            code = script.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "raw")


def test_a_conversion_says_what_it_left_and_how_to_use_it(run, raw, tmp_path):
    out = tmp_path / "out"
    code, said, _ = run(raw, out, *SHARDS, "--quiet")
    assert code == 0
    first, second, third = said.splitlines()
    unreadable = f"3 unreadable (left out, see {out / 'unreadable.txt'})"
    assert first == f"28 training and 6 validation images of 3 classes, {unreadable}"
    assert second.startswith("3 and 2 files, ")
    assert third == f"use: --data_dir_local {out}"
    assert run("--verify", out, "--quiet") == (0, "28 training and 6 validation images of 3 classes: no problems\n", "")


def test_problems_are_listed_and_end_with_exit_code_1(run, raw, tmp_path):
    out = tmp_path / "out"
    convert(raw, out, train_shards=3, validation_shards=2, quiet=True)
    (out / "train-00001-of-00003").unlink()
    code, said, _ = run("--verify", out, "--quiet")
    assert code == 1
    assert said.splitlines()[0] == "train-00001-of-00003: the file is missing"
    assert said.splitlines()[1].endswith("validation images of 3 classes: 1 problem")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "out"], "error: RAW must be a directory"),
        (["raw", "out"], "error: --train_shards must be at most 30"),
        (["raw", "raw/train/out"], "error: OUT must be outside of"),
        (["--verify", "raw"], "error: --verify must be a directory with files train-"),
        (["--verify", "nowhere"], "error: --verify must be a directory. Received: nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, raw, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, said = run(*arguments, "--quiet")
    assert code == 2
    assert said.startswith(message)
    assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["raw"], ["raw", "out", "--verify", "out"], ["raw", "out", "--train", "3"]])
def test_a_command_line_that_cannot_be_meant_shows_the_usage(run, arguments):
    code, _, said = run(*arguments)
    assert code == 2
    assert said.startswith("usage: ")


@pytest.mark.parametrize(("error", "code"), [("KeyboardInterrupt", 130), ("Terminated", 143)])
def test_an_interruption_is_one_line_and_the_same_command_goes_on(run, script, raw, tmp_path, monkeypatch, error, code):
    def replace(source, target):
        if Path(target).name.startswith("validation"):
            raise getattr(script, error, KeyboardInterrupt)
        real(source, target)

    real = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        interrupted = run(raw, tmp_path / "out", *SHARDS, "--quiet", "--workers", "1")
    assert interrupted == (code, "", "interrupted: the same command goes on where it stopped\n")
    assert run(raw, tmp_path / "out", *SHARDS, "--quiet")[0] == 0


def test_a_disk_that_fails_is_one_line_and_exit_code_1(run, raw, tmp_path, monkeypatch):
    def replace(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    code, _, said = run(raw, tmp_path / "out", *SHARDS, "--quiet")
    assert code == 1
    assert said.startswith("error: cannot write ")
    assert said.count("\n") == 1


def test_without_tensorflow_the_python_of_venv_takes_over(script, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(os, "execv", lambda path, arguments: started.append((path, arguments)) or sys.exit(0))
    monkeypatch.setattr(sys, "argv", ["convert_ilsvrc12.py", "RAW", "OUT"])
    monkeypatch.setattr(script, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"run ./scripts/setup_venv.sh once, then .venv/bin/python scripts/convert"):
        script.start_with_venv()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    with pytest.raises(SystemExit) as stop:
        script.start_with_venv()
    assert stop.value.code == 0
    assert started == [(python, [str(python), "convert_ilsvrc12.py", "RAW", "OUT"])]
    # The same Python again would start itself for ever.
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    with pytest.raises(SystemExit, match="has no TensorFlow"):
        script.start_with_venv()


def test_a_process_killed_in_the_middle_leaves_nothing_half_valid_and_its_bytes_are_those_of_an_undisturbed_one(
    run, raw, tmp_path
):
    # A pipe that nobody writes to: the process waits there for ever, within the second file.
    shard = plan_shards(list_pictures(raw, quiet=True).splits[0], 3, seed=0)[1]
    pipe = shard.split.path(shard.indices[4])
    pipe.unlink()
    os.mkfifo(pipe)
    out = tmp_path / "out"
    command = [sys.executable, SCRIPT, raw, out, *SHARDS, "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        partial = out / ".train-00001-of-00003.partial"
        while not (partial.exists() and finished(out)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert finished(out) == ["train-00000-of-00003"]
    assert {name for name in os.listdir(out) if name.startswith("train")} == {"train-00000-of-00003"}
    assert partial.exists()
    pipe.unlink()
    pipe.write_bytes(b"")  # of the size that a pipe has
    code, said, _ = run(raw, out, *SHARDS)
    assert code == 0
    # The three, and what was a pipe unless it was one of them.
    assert f"{len({*BAD, f'train/{pipe.parent.name}/{pipe.name}'})} unreadable" in said
    convert(raw, tmp_path / "undisturbed", train_shards=3, validation_shards=2, quiet=True)
    assert content(out) == content(tmp_path / "undisturbed")


def finished(out: Path) -> list[str]:
    state = out / "conversion.json"
    return list(json.loads(state.read_text())["shards"]) if state.exists() else []


def test_as_a_program_it_says_only_how_far_it_is_and_what_it_left(tmp_path):
    raw = write_raw(tmp_path / "raw")
    # The decoder complains about this one, and decodes it.
    flawed = encoded(1)
    (raw / "train/n01/n01_1.JPEG").write_bytes(flawed[:-2] + b"\0\0\0" + flawed[-2:])
    command = [sys.executable, SCRIPT, raw, tmp_path / "out", *SHARDS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("28 training and 6 validation images of 3 classes, 3 unreadable")
    assert {line.partition(":")[0] for line in done.stderr.splitlines()} == {"Listing", "Converting", "Verifying"}
    assert "Converting: 100%, 37/37 images" in done.stderr
    assert "unreadable 3" in done.stderr
