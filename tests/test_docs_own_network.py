"""docs/own_network.md: its files are written, and its commands run, as a reader would do it."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from datasets.config import OwnDataConfig
from nets.config import OwnModelConfig
from utils.flags import flag_fields

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "own_network.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)  # (language, content)
# A block of code is the file that was named last before it.
FILES = {
    re.findall(r"`(\w+\.(?:py|yaml))`", TEXT[: TEXT.index(content)])[-1]: content
    for language, content in BLOCKS
    if language == "yaml" or (language == "python" and 'load_model("model.keras")' not in content)
}
COMMANDS = [line for language, content in BLOCKS if language == "sh" for line in content.splitlines()]
SCREENS = [content.splitlines() for language, content in BLOCKS if not language]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reader's folder, with all files of the page, after its first command."""
    folder = tmp_path_factory.mktemp("work")
    for name, content in FILES.items():
        (folder / name).write_text(content)
    assert COMMANDS[0] == "~/trimflow/.venv/bin/python make_digits.py"
    subprocess.run([sys.executable, "make_digits.py"], cwd=folder, check=True, capture_output=True, timeout=200)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The page's runs go here rather than into the repository; run directory of a learner on a network."""
    return tmp_path_factory.mktemp("runs")


def _arguments(command, folder, runs):
    """The script, its flags and where the run goes."""
    program, script, *flags = shlex.split(command.replace("$PWD", str(folder)))
    assert program == "~/trimflow/scripts/run_local.sh"
    options = dict(zip(flags, flags[1:], strict=False))
    learner = options.get("--learner", "full-prec")
    name = re.sub(r"\W", "_", options.get("--own_model", script))
    run_dir = runs / name / learner
    return script, [*flags, "--run_dir", str(run_dir)], run_dir


def test_the_page_has_its_files_and_commands():
    assert set(FILES) == {"make_digits.py", "gradual.yaml", "my_net.py", "top3_run.py"}
    assert len(COMMANDS) == 8


@pytest.fixture(scope="module")
def first(folder, runs):
    """The page's first run, through run_local.sh, and what it printed."""
    if not (ROOT / ".venv" / "trimflow-stamp").exists():
        pytest.skip("run_local.sh would make .venv first")
    script, flags, run_dir = _arguments(COMMANDS[1], folder, runs)
    command = [str(ROOT / "scripts" / "run_local.sh"), script, *flags]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir, result.stdout


def _shape(line):
    """A line without what differs from run to run."""
    return re.sub(r"\S*/\S+", "PATH", re.sub(r"[-+]?\d[\d.,]*", "N", line))


def test_the_screen_shows_what_the_page_shows(first):
    run_dir, printed = first
    opening, ending = SCREENS
    assert [_shape(line) for line in printed.splitlines()[:3]] == [_shape(line) for line in opening]
    result, files, place = printed.splitlines()[-3:]
    assert [_shape(result), _shape(place)] == [_shape(ending[0]), _shape(ending[2])]
    # Which file is smallest and which is fastest differs from machine to machine.
    assert _shape(files).startswith(_shape(ending[1]).partition("(")[0])
    report = json.loads((run_dir / "report.json").read_text())
    assert report["dense"]["accuracy"] > 0.9
    assert report["compressed"]["accuracy"] > 0.9
    assert report["compressed"]["sparsity"] == pytest.approx(0.8, abs=1e-3)


def test_the_result_is_loaded_as_the_page_says(first):
    run_dir, _ = first
    (code,) = (content for language, content in BLOCKS if 'load_model("model.keras")' in content)
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=run_dir, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] in list("0123456789")


@pytest.mark.parametrize("command", COMMANDS[2:], ids=lambda command: " ".join(command.split()[1:])[:90])
def test_a_command_of_the_page_runs(first, folder, runs, run_program, monkeypatch, command):
    monkeypatch.setenv("TRIMFLOW_CALLER_DIRECTORY", str(folder))
    script, flags, run_dir = _arguments(command, folder, runs)
    if "eval" in flags:  # the same run as the first, with what else that command said
        flags += _arguments(COMMANDS[1], folder, runs)[1]
    path = folder / script if (folder / script).exists() else script
    printed = run_program(["main.py", str(path), *flags])
    report = json.loads((run_dir / "report.json").read_text())
    if "eval" in flags:
        assert f"test accuracy {report['compressed']['accuracy']:.4f}" in printed
    if "top3" in script:
        assert report["metric"] == "top-3 accuracy"
        assert report["compressed"]["accuracy"] > 0.9
    if report["learner"] == "scheduled":
        kernels = {row["path"]: row["sparsity"] for row in report["layers"]}
        assert kernels["dense/kernel"] == pytest.approx(0.8, abs=1e-3)
    assert np.isfinite(keras.models.load_model(run_dir / "model.keras").get_weights()[0]).all() or "my_net" in command


def test_every_own_flag_is_on_the_page():
    for name in [*flag_fields(OwnModelConfig), *flag_fields(OwnDataConfig)]:
        assert f"`--{name}" in TEXT or f" --{name}" in TEXT


def test_messages_of_the_page_are_those_of_the_program():
    files = [path for house in ("nets", "datasets", "utils") for path in (ROOT / house).glob("*.py")]
    sources = "".join(path.read_text() for path in files)
    rows = re.search(r"^\| message \|.*?\n\n", TEXT, re.M | re.S).group(0).strip().splitlines()[2:]
    messages = [message for row in rows for message in re.findall("`([^`]+)`", row.split("|")[1])]
    assert len(messages) == 7
    for message in messages:
        assert message in sources
