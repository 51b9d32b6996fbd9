"""`main.py sweep` with stand-ins for its processes; tests/commands/test_sweep_runs.py has real ones."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import main
from commands import command_line, sweep
from learners.weight_sparsification.sweep_machine import Machine
from tests.commands.fake_sweep import FakePrograms
from utils.errors import InputError, RunError

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "tests" / "nets_for_tests" / "tiny_at_cifar10_run.py")
DATA = ("--data_disk=embedded", "--model_http_url=")
TWO = ("--ws_prune_ratio", "0.5,0.9")


@pytest.fixture(autouse=True)
def _without_path_conf(monkeypatch, tmp_path):
    monkeypatch.setattr(command_line, "ROOT", tmp_path / "root")
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fakes(tmp_path):
    return FakePrograms(tmp_path / "control")


@pytest.fixture
def run(fakes, tmp_path):
    """Runs a sweep on two cores in this process; its exit code."""

    def run_here(*words, cores=2):
        words = [TINY, "--run_dir", str(tmp_path / "family"), *DATA, *words]
        return sweep.Sweep(sweep.read_plan(words), fakes.programs(), Machine(cores, 10**12)).run()

    return run_here


# What is shared, and in which order it is made.


def test_the_dense_network_comes_first_then_the_members_then_the_exports(run, fakes, tmp_path, capsys):
    assert run("--ws_prune_ratio", "0.5,0.75,0.9") == 0
    started = fakes.started()
    assert (started[0], started[-1]) == ("dense", "export")
    assert sorted(started[1:-1]) == ["ratio_0.5", "ratio_0.75", "ratio_0.9"]
    assert f"--save_path={tmp_path / 'family' / 'dense' / 'model.keras'}" in fakes.words_of("ratio_0.9")
    assert "--learner=full-prec" in fakes.words_of("dense")
    assert fakes.words_of("export")[1:4] == [str(tmp_path / "family" / name) for name in sorted(started[1:-1])]
    assert (fakes.threads_of("dense"), fakes.threads_of("ratio_0.5"), fakes.threads_of("ratio_0.9")) == ("2", "1", "2")
    printed = capsys.readouterr().out
    for text in (
        "Sweep of 3 ratios: tiny on digits32",
        "trained once for all",
        "--ws_nb_rlouts 20",
        "shorter than a single run's: --ws_nb_rlouts 20 --ws_nb_finalists 2 --ws_nb_iters_ft 130",
    ):
        assert text in printed
    assert str(tmp_path / "family" / "compare.html") in printed
    assert (tmp_path / "family" / "compare.html").exists()


def test_a_member_s_own_command_is_kept(run, fakes, tmp_path):
    run(*TWO)
    kept = json.loads((tmp_path / "family" / "sweep.json").read_text())["commands"]["ratio_0.9"]
    assert kept.split()[:2] == ["python", "main.py"]
    assert kept.split()[2:] == fakes.words_of("ratio_0.9")
    command_line.check_command_line(kept.split()[2:])


def test_a_network_that_is_trained_already_needs_no_dense_run(run, fakes):
    fakes.facts["has_trained_weights"] = True
    assert run(*TWO) == 0
    assert "dense" not in fakes.started()
    assert not any(word.startswith("--save_path") for word in fakes.words_of("ratio_0.5"))


def test_exports_are_left_out_or_made_as_it_is_said(run, fakes):
    assert run(*TWO, "--export_formats", "none") == 0
    assert "export" not in fakes.started()
    assert run(*TWO, "--export_formats", "litert", "--export_check_images", "50") == 0
    assert fakes.words_of("export")[-2:] == ["--formats=litert", "--check_images=50"]
    assert run(*TWO, "--export_formats", "litert") == 0
    assert fakes.started().count("export") == 1


def test_quiet_prints_the_table_alone(run, capsys):
    assert run(*TWO, "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.strip().startswith("2 runs")


# Going on.


def test_the_same_command_again_repeats_nothing(run, fakes):
    run(*TWO)
    before = fakes.started()
    fakes.check_code = "raise SystemExit(1)"  # not even the look at the network
    assert run(*TWO) == 0
    assert fakes.started() == before


def test_one_more_ratio_is_one_more_member(run, fakes):
    run(*TWO)
    before = len(fakes.started())
    assert run("--ws_prune_ratio", "0.5,0.75,0.9") == 0
    assert fakes.started()[before:] == ["ratio_0.75", "export"]
    assert fakes.words_of("export")[1].endswith("ratio_0.75")


def test_another_configuration_is_refused_and_nothing_is_touched(run, fakes, tmp_path):
    run(*TWO)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "family").rglob("*")}
    with pytest.raises(InputError) as error:
        run("--ws_prune_ratio", "0.5,0.8", "--seed", "3")
    assert "--seed: 0 there, 3 now" in str(error.value)
    assert "--ws_prune_ratio: 0.5,0.9 there, 0.5,0.8 now" in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "family").rglob("*")} == before


def test_overwrite_starts_the_family_anew(run, fakes):
    run(*TWO)
    assert run("--ws_prune_ratio", "0.5,0.8", "--seed", "3", "--overwrite") == 0
    assert sorted(fakes.started()[4:]) == ["dense", "export", "ratio_0.5", "ratio_0.8"]


def test_a_member_of_another_configuration_runs_again_and_its_run_says_why(run, fakes, tmp_path):
    """As where somebody ran something else in its directory; a real run then names the differences."""
    run(*TWO)
    path = tmp_path / "family" / "ratio_0.5" / "config.json"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    run(*TWO)
    assert fakes.started().count("ratio_0.5") == 2
    assert fakes.started().count("ratio_0.9") == 1


# What goes wrong.


def test_a_failed_member_stops_no_other_and_is_tried_again(run, fakes, tmp_path, capsys):
    fakes.fail("ratio_0.75")
    assert run("--ws_prune_ratio", "0.5,0.75,0.9") == 1
    assert sorted(fakes.started()) == ["dense", "export", "ratio_0.5", "ratio_0.75", "ratio_0.9"]
    message = capsys.readouterr().err
    assert "error: ratio_0.75 failed (the loss is nan at step 7)" in message
    assert str(tmp_path / "family" / "logs" / "ratio_0.75.log") in message
    assert "the same command tries again what failed" in message
    assert len(json.loads((tmp_path / "family" / "compare.json").read_text())["runs"]) == 2
    fakes.release()
    assert run("--ws_prune_ratio", "0.5,0.75,0.9") == 0
    assert fakes.started()[5:] == ["ratio_0.75", "export"]
    assert len(json.loads((tmp_path / "family" / "compare.json").read_text())["runs"]) == 3


def test_of_one_finished_member_there_is_no_comparison(run, fakes, tmp_path):
    fakes.fail("ratio_0.9")
    assert run(*TWO) == 1
    assert not (tmp_path / "family" / "compare.html").exists()


def test_failed_exports_do_not_cost_the_comparison(run, fakes, tmp_path, capsys):
    fakes.fail("export")
    assert run(*TWO) == 1
    assert "error: exports failed" in capsys.readouterr().err
    assert (tmp_path / "family" / "compare.html").exists()


@pytest.mark.parametrize(("code", "kind"), [(2, InputError), (1, RunError)])
def test_without_a_dense_network_nothing_else_begins(run, fakes, code, kind):
    fakes.fail("dense", code)
    with pytest.raises(kind, match=r"no dense network: the loss is nan at step 7\n\(all it said: .*dense\.log\)"):
        run(*TWO)
    assert fakes.started() == ["dense"]
    fakes.release()
    assert run(*TWO) == 0


def test_what_the_network_cannot_reach_is_an_error_before_any_work(run, fakes, tmp_path):
    fakes.check_code = "print('error: --ws_prune_ratio must be at most 0.91'); raise SystemExit(2)"
    with pytest.raises(InputError, match=r"^--ws_prune_ratio must be at most 0\.91$"):
        run("--ws_prune_ratio", "0.5,0.999")
    assert not (tmp_path / "family").exists()
    assert fakes.started() == []


# Bad words.


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("", ("the first word after sweep must be a net script", "nothing")),
        ("--ws_prune_ratio 0.5,0.9", ("the first word after sweep must be a net script",)),
        ("nets/nowhere_run.py --ws_prune_ratio 0.5,0.9", ("there is no net script nets/nowhere_run.py",)),
        (f"{TINY}", ("--ws_prune_ratio must be given to a sweep", "nothing")),
        (f"{TINY} --ws_prune_ratio", ("--ws_prune_ratio must have a value",)),
        (f"{TINY} --ws_prune_ratio 0.5", ("at least two ratios", "'0.5'")),
        (f"{TINY} --ws_prune_ratio 0.5,x", ("numbers with commas", "'0.5,x'")),
        (f"{TINY} --ws_prune_ratio 0.5,0.5", ("each ratio once",)),
        (f"{TINY} --ws_prune_ratio 0.5,1.5", ("--ws_prune_ratio must be at least 0 and at most 1", "1.5")),
        (f"{TINY} --ws_prune_ratio=-0.1,0.5", ("--ws_prune_ratio must be at least 0 and at most 1", "-0.1")),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 --learner lottery-ticket", ("--learner must be weight-sparse", "lottery")),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 --exec_mode eval", ("--exec_mode makes no sense", "eval")),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 -n=2", ("-n makes no sense in a sweep", "--sweep_processes")),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 --sweep_processes 0", ("--sweep_processes must be a number", "'0'")),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 --sed 1", ("Unknown command line flag 'sed'",)),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 rest", ("flags begin with --", "rest")),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 --batch_size 0", ("--batch_size must be at least 1",)),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 --ws_nb_rlouts 10", ("--ws_nb_rlouts_min must be at most", "20 and 10")),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 --compress a.yaml", ("--compress needs --learner scheduled",)),
        (f"{TINY} --ws_prune_ratio 0.5,0.9 --export_formats magic", ("--export_formats must be", "'magic'")),
    ],
)
def test_bad_words_are_named_before_any_work(words, parts, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as stop:
            main.run(["main.py", "sweep", *words.split()])
    finally:
        signal.signal(signal.SIGTERM, handler)
    message = capsys.readouterr().err
    assert stop.value.code == 2, message
    assert message.startswith("error: ")
    for part in parts:
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_help_says_how_to_call_it(capsys):
    assert sweep.run(["--help"]) == 0
    printed = capsys.readouterr().out
    for text in ("usage: python main.py sweep NET_SCRIPT", "--sweep_processes N", "--ws_prune_ratio LIST"):
        assert text in printed


# How a process ends.

STARTER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import main
from commands import sweep
from tests.commands.fake_sweep import FakePrograms
fakes = FakePrograms.__new__(FakePrograms)
fakes.directory, fakes.facts = Path({control!r}), {facts!r}
sweep.our_programs = fakes.programs
main.run(["main.py", "sweep", *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=["INT", "TERM", "KILL"]
)
def test_however_a_sweep_ends_its_members_end_with_it_and_the_same_command_goes_on(fakes, tmp_path, sent, code):
    code_of_sweep = STARTER.format(root=str(ROOT), control=str(fakes.directory), facts=fakes.facts)
    words = [
        TINY,
        "--run_dir",
        str(tmp_path / "family"),
        *DATA,
        *TWO,
        "--sweep_processes",
        "2",
        "--export_formats",
        "none",
    ]
    command = [sys.executable, "-c", code_of_sweep, *words]
    fakes.hang("ratio_0.5")
    fakes.hang("ratio_0.9")

    def heed_interrupts():  # tests that a shell started in the background ignore them
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    try:
        _wait_for(lambda: fakes.hangs("ratio_0.5") and fakes.hangs("ratio_0.9"))
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    if sent != signal.SIGKILL:
        assert said.splitlines()[-1].startswith("interrupted: the same command goes on")
    _wait_for(lambda: not any(_is_alive(fakes.hangs(name)) for name in ("ratio_0.5", "ratio_0.9")))
    fakes.release()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert fakes.started().count("dense") == 1
    assert (tmp_path / "family" / "compare.html").exists()


def _wait_for(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
