"""A real sweep of two ratios, killed in the middle of its members' searches and started again."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from commands import command_line
from commands.sweep_check import facts_of
from utils.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
TINY = "tests/nets_for_tests/tiny_at_cifar10_run.py"
FLAGS = """--data_disk embedded --model_http_url= --nb_smpls_train 320 --nb_smpls_val 100 --nb_smpls_eval 100
    --batch_size 32 --nb_epochs_rat 0.25 --ws_nb_rlouts 24 --ws_nb_iters_ft 4 --ws_nb_finalists 2
    --export_formats none"""
MEMBERS = {"ratio_0.5": 0.5, "ratio_0.8": 0.8}


def _lines(path):
    return path.read_text().splitlines() if path.exists() else []


def _stages(run_dir):
    return json.loads((run_dir / "stages.json").read_text())


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Its directory, and what the second start printed."""
    directory = tmp_path_factory.mktemp("sweep") / "family"
    command = [sys.executable, "main.py", "sweep", TINY, "--ws_prune_ratio", "0.5,0.8", "--sweep_processes", "2"]
    command += ["--run_dir", str(directory), *FLAGS.split()]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    logs = [directory / name / "search.jsonl" for name in MEMBERS]
    while not all(len(_lines(log)) >= 8 for log in logs):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    first.wait()
    unfinished = [name for name in MEMBERS if not (directory / name / "report.json").exists()]
    assert unfinished == list(MEMBERS)
    # At once, while the members of the killed sweep may still be at work.
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return directory, done.stdout


def _report(run_dir):
    return json.loads((run_dir / "report.json").read_text())


def test_all_members_begin_with_the_same_dense_network_which_was_trained_once(family):
    directory, printed = family
    assert "dense network  there already" in printed
    assert _report(directory / "dense")["dense"]["source"] == "trained"
    for name in MEMBERS:
        assert _report(directory / name)["dense"]["source"] == str(directory / "dense" / "model.keras")
        assert not (directory / name / "dense" / "checkpoint.npz").exists()
    assert (directory / "logs" / "dense.log").read_text().count("$ ") == 1


def test_the_paths_were_built_by_one_of_them(family):
    directory, _ = family
    sources = [_stages(directory / name)["paths"].get("source") for name in MEMBERS]
    assert sorted(sources, key=str) == [str(directory / "paths.npz"), None]
    (taken,) = (name for name, source in zip(MEMBERS, sources, strict=True) if source)
    assert "which another run built" in _report(directory / taken)["notes"][0]


def test_each_member_reached_its_ratio_with_all_its_roll_outs(family):
    directory, _ = family
    for name, ratio in MEMBERS.items():
        assert _report(directory / name)["compressed"]["sparsity"] >= ratio
        records = [json.loads(line) for line in _lines(directory / name / "search.jsonl")]
        assert [record["index"] for record in records] == list(range(24))


def test_the_members_are_compared(family):
    directory, printed = family
    assert str(directory / "compare.html") in printed
    for name in MEMBERS:
        assert name in printed
        assert name in (directory / "compare.html").read_text()


def test_a_member_s_own_command_repeats_it_bit_for_bit(family, run_program, tmp_path):
    """What was killed and went on beside another one is what its command gives alone."""
    directory, _ = family
    kept = json.loads((directory / "sweep.json").read_text())["commands"]["ratio_0.8"]
    words = [word for word in shlex.split(kept)[1:] if not word.startswith("--run_dir=")]
    run_program([*words, f"--run_dir={tmp_path / 'alone'}", "--quiet"])
    found, expected = (
        keras.models.load_model(run_dir / "model.keras").get_weights()
        for run_dir in (tmp_path / "alone", directory / "ratio_0.8")
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert _report(tmp_path / "alone")["compressed"] == _report(directory / "ratio_0.8")["compressed"]


# 4,536 weights, of which at the sparsest level of the paths 0.9138 can go, and 0.8796 in the search (test_bad_input).
def _line(tmp_path, ratio):
    words = [f"--run_dir={tmp_path / 'run'}", "--learner=weight-sparse", f"--ws_prune_ratio={ratio}"]
    return [str(ROOT / TINY), *FLAGS.split(), *words]


def test_a_ratio_that_the_network_cannot_reach_is_found_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(InputError, match=r"must be at most 0\.8796"):
        facts_of([_line(tmp_path, 0.5), _line(tmp_path, 0.9)])
    assert not (tmp_path / "run").exists()


def test_what_is_known_of_network_and_data(tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    facts = facts_of([_line(tmp_path, 0.5)])
    assert facts["title"].startswith("tiny on digits32")
    assert facts["has_trained_weights"] is False
    grams = sum(4 * inputs**2 for inputs in (27, 72, 8, 72, 144, 16))
    assert facts["state_bytes"] == 2 * (grams + 48 * 4536)
