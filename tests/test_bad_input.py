"""Wrong input, as a user gives it: exit code 2 and one clear message before any work, and nothing is written."""

import functools
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

import main
from commands import command_line

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "nets_for_tests" / "tiny_at_cifar10_run.py"
FEW = """--nb_smpls_train 320 --nb_smpls_val 100 --nb_smpls_eval 100 --batch_size 32 --nb_epochs_rat 0.25
    --export_formats none"""
SPARSE = ("--learner", "weight-sparse")
CIFAR10_FILES = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
RECORD = 3073


@pytest.fixture(autouse=True)
def _as_a_program_of_its_own(monkeypatch, tmp_path):
    """No path.conf of this machine, and what the program changes in its process is put back."""
    monkeypatch.setattr(command_line, "ROOT", tmp_path / "root")
    monkeypatch.setattr(sys, "path", list(sys.path))
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs the program in this process, checks how it ends, and returns its message."""

    def run(*flags, script=TINY, code=2):
        run_dir = tmp_path / "run"
        with pytest.raises(SystemExit) as stop:
            main.run(["main.py", str(script), "--run_dir", str(run_dir), *FEW.split(), *flags])
        message = capsys.readouterr().err
        assert stop.value.code == code, message
        assert "Traceback" not in message
        assert message.startswith("error: ")
        assert message.count("error:") == 1
        if code == 2:
            assert not run_dir.exists()
        return message

    return run


@pytest.fixture
def data(tmp_path):
    """CIFAR-10 of three black images a file."""
    directory = tmp_path / "data"
    directory.mkdir()
    for name in CIFAR10_FILES:
        (directory / name).write_bytes(bytes(3 * RECORD))
    return directory


# Flags.


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--learner magic", ("--learner must be one of full-prec, weight-sparse", "'magic'")),
        (
            "--ws_prune_ratio_prtl magic",
            ("--ws_prune_ratio_prtl must be one of uniform, heurist, erk, lamp, global, dp, optimal", "'magic'"),
        ),
        ("--ws_reward_type magic", ("--ws_reward_type must be one of single-obj, multi-obj", "'magic'")),
        ("--ws_rg_solver magic", ("--ws_rg_solver must be one of closed-form, sgd", "'magic'")),
        ("--exec_mode magic", ("--exec_mode must be one of train, eval", "'magic'")),
        ("--ws_prune_ratio 1.5", ("--ws_prune_ratio must be at least 0 and at most 1", "1.5")),
        ("--ws_prune_ratio=-0.1", ("--ws_prune_ratio must be at least 0 and at most 1", "-0.1")),
        ("--ws_prune_ratio nan", ("--ws_prune_ratio must be a finite number", "nan")),
        ("--ws_prune_ratio much", ("--ws_prune_ratio=much", "could not convert")),
        ("--nb_epochs_rat 0", ("--nb_epochs_rat must be above 0", "0.0")),
        ("--batch_size 0", ("--batch_size must be at least 1", "0")),
        (
            "--ws_iter_ratio_beg 0.5 --ws_iter_ratio_end 0.5",
            ("--ws_iter_ratio_beg must be below --ws_iter_ratio_end", "0.5 and 0.5"),
        ),
        ("--ws_nb_rlouts 10", ("--ws_nb_rlouts_min must be at most --ws_nb_rlouts", "20 and 10")),
        ("--ws_prune_rate 0.5", ("Unknown command line flag 'ws_prune_rate'", "--help lists all flags")),
        ("weight-sparse", ("flags begin with --", "weight-sparse")),
        ("--enbl_multi_gpu", ("scripts/run_local.sh NET_SCRIPT -n=N starts them", "a process that was started alone")),
        ("--data_disk tape", ("--data_disk must be one of local, hdfs, embedded", "'tape'")),
        ("--data_disk local", ("--data_disk local needs --data_dir_local", "none")),
        ("--nb_smpls_train 99999999", ("--nb_smpls_train must be at most", "99999999")),
        ("--save_path model.ckpt", ("--save_path must end in .keras", "'model.ckpt'")),
        (
            "--learner weight-sparse --ws_save_path model.ckpt",
            ("--ws_save_path must end in .keras", "'model.ckpt'"),
        ),
        ("--model_http_url ftp://host/m.keras", ("--model_http_url must begin with https://", "ftp://host")),
    ],
)
def test_a_wrong_flag_is_named_with_what_is_allowed_and_what_came(refused, flags, parts):
    message = refused(*flags.split())
    for part in parts:
        assert part in message


def test_an_unknown_size_of_the_resnet_names_those_there_are(refused):
    message = refused("--resnet_size", "21", script=ROOT / "nets" / "resnet_at_cifar10_run.py")
    assert "--resnet_size must be one of 20, 32, 44, 56, 110. Received: 21" in message


# 4,536 weights, of which the first and the last layer's 376 stay. Of 576, 128, 1152 and 2304 a path's sparsest level,
# density 0.9**55 = 0.003043, removes 574, 127, 1148 and 2296, together 4,145 = 0.913800 of all. In the search action 1
# leaves a third of the target's density, at 0.8796 ratio 0.95987: 552 + 122 + 1105 + 2211 = 3,990 = 4536 * 0.87963.
@pytest.mark.parametrize(
    ("protocol", "target", "largest"),
    [("uniform", "0.999", "0.9138"), ("optimal", "0.999", "0.9138"), ("optimal", "0.9", "0.8796")],
)
def test_an_unreachable_target_names_the_largest_that_is_reached(refused, protocol, target, largest):
    message = refused(*SPARSE, "--ws_prune_ratio", target, "--ws_prune_ratio_prtl", protocol)
    assert re.search(rf"prun\w+[ _]ratio must be at most {largest}\b", message)
    assert f"Received: {target}" in message


def test_a_mask_update_that_would_come_too_late_is_refused(refused):
    # 20 iterations, the ramp ends at half of them; the first multiple of 15 from there on is 15, of 25 it is 25.
    message = refused(*SPARSE, "--ws_train_init", "dense", "--ws_mask_update_step", "25")
    assert "--ws_mask_update_step must leave a mask update between iteration 10" in message
    assert "and 20, the last. Received: 25" in message


# Scripts and files.


def test_a_script_that_is_not_there_names_ours(refused, monkeypatch):
    monkeypatch.setattr(command_line, "ROOT", ROOT)
    message = refused(script="nets/alexnet_at_cifar10_run.py")
    assert "there is no net script nets/alexnet_at_cifar10_run.py" in message
    for name in ("lenet_at_cifar10", "own_model", "resnet_at_ilsvrc12"):
        assert f"nets/{name}_run.py" in message


def test_no_script_at_all_shows_how_to_call_the_program(capsys):
    with pytest.raises(SystemExit) as stop:
        main.run(["main.py"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "the first argument must be a net script. Received: nothing" in message
    assert "usage: python main.py" in message


def test_a_script_without_a_model_helper_is_named(refused, tmp_path):
    script = tmp_path / "empty_at_cifar10_run.py"
    script.write_text("class Model: pass\n")
    assert f"{script} must define ModelHelper" in refused(script=script)


def test_a_data_directory_that_is_not_there(refused, tmp_path):
    message = refused("--data_dir_local", str(tmp_path / "nowhere"))
    assert f"the data directory must exist. Received: {tmp_path / 'nowhere'}" in message


def test_an_empty_data_directory(refused, tmp_path):
    (tmp_path / "data").mkdir()
    message = refused("--data_dir_local", str(tmp_path / "data"))
    assert f"it is empty. Received: {tmp_path / 'data'}" in message
    assert "scripts/download_cifar10.sh" in message


def test_a_missing_data_file(refused, data):
    (data / "data_batch_4.bin").unlink()
    message = refused("--data_dir_local", str(data))
    assert f"Missing: {data / 'data_batch_4.bin'}" in message


@pytest.mark.parametrize("size", [0, 1, 2 * RECORD + 100])
def test_a_truncated_data_file_is_named_with_its_sizes(refused, data, size):
    (data / "data_batch_2.bin").write_bytes(bytes(size))
    message = refused("--data_dir_local", str(data))
    assert str(data / "data_batch_2.bin") in message
    assert "must be a multiple of 3073 bytes" in message
    assert "30730000" in message
    assert f"Received: {size} bytes" in message


def test_a_label_out_of_range_is_named_with_its_place(refused, data):
    content = bytearray(3 * RECORD)
    content[2 * RECORD] = 10
    (data / "data_batch_3.bin").write_bytes(content)
    message = refused("--data_dir_local", str(data), "--nb_smpls_val", "5")
    assert f"a label must be 0 to 9. Received: 10 in {data / 'data_batch_3.bin'}, record 2" in message


@pytest.mark.parametrize("learner", ["full-prec", "weight-sparse"])
def test_a_saved_model_of_another_network_names_the_first_differences(refused, tmp_path, learner):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 5, name="conv2d")(inputs))
    path = tmp_path / "other.keras"
    keras.Model(inputs, keras.layers.Dense(10, name="dense")(x)).save(path)
    message = refused("--learner", learner, "--save_path", str(path))
    assert f"{path} holds another network" in message
    assert "conv2d/kernel: (5, 5, 3, 2) there, (3, 3, 3, 8) here" in message
    assert re.search(r"and \d+ more", message)


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_saved_model_that_is_none(refused, tmp_path, content):
    path = tmp_path / "broken.keras"
    path.write_bytes(content)
    assert f"{path} cannot be read as a .keras model" in refused("--save_path", str(path))


def test_a_model_to_evaluate_that_is_not_there(refused, tmp_path):
    assert f"there is no model at {tmp_path / 'run' / 'model.keras'}" in refused("--exec_mode", "eval")


def test_a_run_directory_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    for overwrite in ((), ("--overwrite",)):
        with pytest.raises(SystemExit) as stop:
            main.run(["main.py", str(TINY), "--run_dir", str(tmp_path / "photos"), *FEW.split(), *overwrite])
        assert stop.value.code == 2
        assert f"{tmp_path / 'photos'} is not empty and holds no run of ours" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]


# path.conf.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("data_dir_local_cifar10", "path.conf:2: a line must be `key = value`"),
        ("data_dir = /data", "path.conf:2: a key must be one of data_dir_local_<dataset>"),
        ("data_dir_local_cifar10 = '/data'", "path.conf:2: a value must be plain text without quotes"),
        ("data_dir_local_cifar10 = nowhere", "the data directory must exist. Received: {root}/nowhere"),
    ],
)
def test_a_wrong_path_conf_is_named(refused, line, message):
    command_line.ROOT.mkdir()
    (command_line.ROOT / "path.conf").write_text(f"# where the data is\n{line}\n")
    assert message.format(root=command_line.ROOT) in refused()


def test_the_command_line_goes_before_path_conf(refused, tmp_path):
    command_line.ROOT.mkdir()
    (command_line.ROOT / "path.conf").write_text("data_dir_local_cifar10 = nowhere\n")
    message = refused("--data_dir_local", str(tmp_path / "elsewhere"))
    assert f"Received: {tmp_path / 'elsewhere'}" in message


# How a process ends.


def _start(*arguments, **options):
    options = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) | options
    # Tests that were started in the background by a shell ignore SIGINT, and so would the program.
    heeds_interrupts = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, "main.py", *arguments], preexec_fn=heeds_interrupts, **options)


def test_a_process_prints_one_line_and_nothing_else():
    process = _start(str(TINY), "--learner", "magic")
    printed, message = process.communicate(timeout=60)
    assert (process.returncode, printed) == (2, "")
    assert message == (
        "error: --learner must be one of full-prec, weight-sparse, scheduled, lottery-ticket. Received: 'magic'\n"
    )


def test_debug_shows_where_an_error_arose():
    process = _start(str(TINY), "--learner", "magic", "--debug")
    _, message = process.communicate(timeout=60)
    assert process.returncode not in (0, 2)
    assert "Traceback" in message
    assert "check_config" in message


def test_a_loss_that_is_not_finite_stops_the_run(refused, tmp_path):
    # The rate rises to its peak 1e30 * 32 / 128 and the loss is no number after few steps.
    message = refused("--lrn_rate_init", "1e30", "--save_step", "1", "--data_disk", "embedded", "--quiet", code=1)
    found = re.search(
        r"dense training: (the loss is|there is) (?:nan|inf).* at step (\d+) with learning rate (\S+); (.*)", message
    )
    assert found
    assert 0 < int(found[2]) < 20
    assert 1e20 < float(found[3]) <= 1e30 * 32 / 128
    checkpoint = tmp_path / "run" / "dense" / "checkpoint.npz"
    assert found[4].startswith(f"the last good checkpoint is {checkpoint}")
    assert checkpoint.exists()
    assert not (tmp_path / "run" / "stages.json").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_stopped_run_says_how_to_go_on(tmp_path, sent, code):
    run_dir = tmp_path / "run"
    flags = [*FEW.split(), "--nb_epochs_rat", "500", "--save_step", "10", "--quiet"]
    process = _start(str(TINY), "--run_dir", str(run_dir), "--data_disk", "embedded", "--model_http_url=", *flags)
    deadline = time.monotonic() + 120
    while not (run_dir / "dense" / "checkpoint.npz").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(sent)
    try:
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert message == "interrupted: the same command goes on from the last checkpoint\n"
