"""From a command line of run_seven.sh to a job, without a cluster."""

import pytest

from commands import command_line
from launchers import cluster_paths, seven
from launchers.mpijob import Volume
from launchers.seven import make_job, read_options
from nets.config import FUNCTION
from utils.errors import InputError
from utils.flags import flag_fields

NET = "nets/resnet_at_cifar10_run.py"
OWN = "nets/own_model_run.py"
CONF = {
    "data_dir_seven_cifar10": "pvc:data/cifar10",
    "data_dir_seven_own_model": "/mnt/photos",
    "data_dir_seven_runs": "pvc:runs",
    "image_seven": "registry.example.com/trimflow:gpu-1",
}


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """`conf(**changes)`: writes path.conf, None leaves a key out; before any call it is CONF."""
    monkeypatch.setattr(seven, "ROOT", tmp_path)

    def write(**changes):
        lines = [f"{key} = {value}\n" for key, value in (CONF | changes).items() if value is not None]
        (tmp_path / "path.conf").write_text("".join(lines))

    write()
    return write


@pytest.fixture
def job(conf):
    return lambda *words: make_job(read_options(words))


@pytest.fixture
def refused(job):
    """`refused(*words)`: the message with which they are refused."""

    def run(*words):
        with pytest.raises(InputError) as error:
            job(*words)
        assert "\n" not in str(error.value)
        return str(error.value)

    return run


def test_options_of_the_script_are_parted_from_flags():
    words = [
        NET,
        "-n=16",
        "--learner",
        "full-prec",
        "--image",
        "a:b",
        "--namespace=team",
        "-j=x",
        "--dry_run",
        "--seed=1",
    ]
    options = read_options(words)
    assert options.net_script == NET
    assert options.values == {"-n": "16", "--image": "a:b", "--namespace": "team", "-j": "x"}
    assert options.is_dry_run
    assert options.flags == ["--learner", "full-prec", "--seed=1"]
    assert read_options([NET, "--nb_gpus", "2"]).values == {"-n": "2"}


def test_after_two_hyphens_all_is_for_main():
    options = read_options([NET, "-n=2", "--seed=1", "--", "--dry_run", "-n=3"])
    assert (options.is_dry_run, options.values) == (False, {"-n": "2"})
    assert options.flags == ["--seed=1", "--dry_run", "-n=3"]


def test_no_flag_of_main_is_hidden_but_its_dry_run():
    ours = {name.lstrip("-") for name in (*seven._NUMBERS, *seven._TEXTS)} | {"dry_run"}
    theirs = {name for group in command_line.FLAG_GROUPS for name in flag_fields(group)}
    assert ours & theirs == {"dry_run"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n=0"], "-n must be a whole number from 1 to 9999. Received: '0'"),
        (["-n=-1"], "-n must be a whole number from 1 to 9999. Received: '-1'"),
        (["--nb_gpus=x"], "-n must be a whole number"),
        (["-n=10000"], "-n must be a whole number"),
        (["-n=²"], "-n must be a whole number"),
        (["-n="], "-n must be a whole number from 1 to 9999. Received: ''"),
        (["--retries=-1"], "--retries must be a whole number from 0 to 9999. Received: '-1'"),
        (["-n"], "-n needs a value. Received: none"),
        (["--image"], "--image needs a value. Received: none"),
        (["-n=2", "--nb_gpus=4"], "-n must be given once. Received: 2 and 4"),
        (["-n=12"], "-n above 8 must be a multiple of it"),
        (["--gpus_per_node=2", "--cpus_per_node=2"], "Received: both --gpus_per_node and --cpus_per_node"),
        (["-j=My_Job"], "-j must be a name of at most 54 letters a-z, digits and hyphens"),
        (["-j="], "-j must be a name"),
        (["--namespace=Team"], "--namespace must be at most 63 letters"),
        (["--image=Not An Image"], "--image must be an image such as"),
        (["--ws_prune_ratio=3"], "--ws_prune_ratio must be at least 0 and at most 1. Received: 3.0"),
        (["--no_such_flag"], "Unknown command line flag 'no_such_flag'"),
        (["--data_disk=floppy"], "--data_disk must be one of local, embedded, hdfs. Received: 'floppy'"),
        (["--flagfile=my.flags"], "the flags themselves must be given, pods do not have that file"),
        (["more"], "flags begin with --. Received: more"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_sent(refused, words, message):
    assert message in refused(NET, *words)


def test_net_script_must_be_one_that_the_image_has(refused, tmp_path):
    own = tmp_path / "mine_at_cifar10_run.py"
    own.touch()
    assert "a net script must be a file below" in refused(str(own))
    assert "a net script must be a file below" in refused("main.py")
    assert refused() == "the first argument must be a net script. Received: nothing"


def test_a_job_is_made_of_command_and_path_conf(job):
    made = job(NET, "-n=16", "-j=x", "--learner=weight-sparse", "--retries=7")
    assert made.command == (NET, "--data_dir_local=/data", "--learner=weight-sparse")
    assert (made.num_processes, made.num_slots, made.num_workers, made.uses_gpus) == (16, 8, 2, True)
    assert (made.data, made.runs) == (Volume("data", "cifar10"), Volume("runs", ""))
    assert (made.name, made.image, made.namespace, made.num_retries) == ("x", CONF["image_seven"], "", 7)


def test_a_name_is_made_of_the_command(job):
    name = job(NET, "-n=8", "--learner=weight-sparse").name
    assert name.startswith("resnet-at-cifar10-weight-sparse-")
    assert job(NET, "-n=16", "--learner=weight-sparse", "--image=a:b").name == name
    assert job(NET, "-n=8", "--learner=weight-sparse", "--seed=1").name != name


def test_nodes_may_have_fewer_gpus_or_none(job):
    made = job(NET, "-n=6", "--gpus_per_node=2")
    assert (made.num_slots, made.num_workers, made.uses_gpus) == (2, 3, True)
    made = job(NET, "-n=6", "--cpus_per_node=3")
    assert (made.num_slots, made.num_workers, made.uses_gpus) == (3, 2, False)
    made = job(NET)
    assert (made.num_processes, made.num_slots, made.num_workers) == (1, 1, 1)


def test_image_of_the_command_line_wins(job, conf):
    assert job(NET, "--image", "a:b").image == "a:b"


def test_missing_settings_are_refused_with_the_line_to_write(refused, conf):
    conf(data_dir_seven_runs=None)
    assert "write the line `data_dir_seven_runs = pvc:CLAIM/folder`" in refused(NET)
    conf(data_dir_seven_cifar10=None)
    message = refused(NET)
    assert "write the line `data_dir_seven_cifar10 = pvc:CLAIM/folder`" in message
    assert "or give --data_disk embedded" in message
    conf(image_seven=None)
    message = refused(NET)
    assert "push it" in message
    assert "`image_seven = ...`" in message
    assert "trimflow:cpu-COMMIT" in refused(NET, "--cpus_per_node=4")
    conf(image_seven="A B")
    assert refused(NET).startswith("path.conf: image_seven must be an image such as")
    conf(data_dir_seven_cifar10="cifar10")
    assert refused(NET).startswith("path.conf: data_dir_seven_cifar10 must be pvc:CLAIM")


def test_embedded_data_needs_no_volume(job, conf):
    conf(data_dir_seven_cifar10=None, data_dir_hdfs_cifar10="/user/me")
    made = job(NET, "--data_disk", "embedded")
    assert made.data is None
    assert made.command == (NET, "--data_disk", "embedded")


def test_data_on_hdfs_is_told_by_flags_for_pods_have_no_path_conf(job, conf):
    hdfs = {"data_dir_hdfs_cifar10": "/user/me", "data_hdfs_host": "name:9000"}
    told = ("--data_dir_hdfs=/user/me", "--data_hdfs_host=name:9000")
    conf(**hdfs)
    made = job(NET, "--data_disk=hdfs")
    assert made.data is None
    assert made.command == (NET, *told, "--data_disk=hdfs")
    assert job(NET, "--data_disk=hdfs", "--data_hdfs_host=other:1").command == (
        NET, "--data_dir_hdfs=/user/me", "--data_disk=hdfs", "--data_hdfs_host=other:1",
    )  # fmt: skip
    assert job(NET).command == (NET, "--data_dir_local=/data"), "as on one machine, local data wins where it is known"
    conf(**hdfs, data_dir_seven_cifar10=None)
    assert job(NET).command == (NET, *told)


def test_local_settings_of_this_machine_stay_here(job, conf):
    conf(data_dir_local_cifar10="/home/ann/cifar10", model_http_url="https://models.example.com")
    made = job(NET)
    assert made.command == (NET, "--model_http_url=https://models.example.com", "--data_dir_local=/data")


def test_data_may_lie_deeper_or_with_the_runs(job, conf):
    made = job(NET, "--data_dir_local", "/data/binary")
    assert (made.command, made.data) == ((NET, "--data_dir_local", "/data/binary"), Volume("data", "cifar10"))
    conf(data_dir_seven_cifar10=None)
    assert job(NET, "--data_dir_local=runs/data").data is None


@pytest.mark.parametrize(
    "words",
    [
        ["--run_dir=runs/a", "--log_dir=logs/a", "--save_path=/opt/trimflow/models/a.keras", "--ws_save_path=models/b"],
        ["--learner=scheduled", "--compress=recipes/resnet20.agp.yaml"],
        ["--learner=scheduled", "--compress=/data/my.yaml", "--kd_teacher=resnet_56", "--kd_resume=models/t.keras"],
        ["--exec_mode=eval", "--save_path_eval=/data/a.keras"],
    ],
)
def test_paths_that_pods_have(job, words):
    assert job(NET, *words).command[2:] == tuple(words)


@pytest.mark.parametrize(
    ("flag", "path"),
    [
        ("run_dir", "/home/ann/runs"),
        ("run_dir", "my_runs"),
        ("run_dir", "runs/../../x"),
        ("run_dir", "/data/runs"),
        ("save_path", "a.keras"),
        ("ws_save_path", "~/runs/a"),
        ("ws_paths", "/data/paths.npz"),
        ("log_dir", "runs_of_mine"),
        ("save_path_eval", "/dataset/a.keras"),
        ("data_dir_local", "/mnt/cifar10"),
        ("kd_resume", "t.keras"),
        ("compress", "recipes/there_is_none.yaml"),
        ("compress", "my.yaml"),
        ("own_model", "my.keras"),
        ("own_data", "photos"),
    ],
)
def test_paths_that_pods_do_not_have_are_refused_with_where_to_copy_to(refused, flag, path):
    more = {
        "compress": ["--learner=scheduled"],
        "kd_resume": ["--learner=scheduled", "--kd_teacher=resnet_56"],
    }.get(flag, [])
    net = OWN if flag.startswith("own") else NET
    message = refused(net, *more, f"--{flag}={path}")
    assert message.startswith(f"--{flag} must be a path that pods have: below runs, models or logs")
    assert f"Received: {path!r}" in message
    is_written = flag in ("run_dir", "save_path", "ws_save_path", "ws_paths", "log_dir")
    assert ("or below /data" in message) is not is_written


def test_own_network_and_data_have_a_volume_of_their_own(job, conf):
    made = job(OWN, "--own_model=/data/my.keras", "--own_data", "/data/photos")
    assert made.data == Volume("", "/mnt/photos")
    assert made.command == (OWN, "--own_model=/data/my.keras", "--own_data", "/data/photos")
    conf(data_dir_seven_own_model=None)
    assert job(OWN, "--own_model=models/my.keras", "--own_data=runs/photos").data is None
    assert FUNCTION.fullmatch("mine.nets:make"), "what such a flag may be"
    assert job(OWN, "--own_model=mine.nets:make", "--own_data=runs/photos").command[1] == "--own_model=mine.nets:make"


def test_own_data_without_a_setting_is_refused_with_the_line_to_write(refused, conf):
    conf(data_dir_seven_own_model=None)
    message = refused(OWN, "--own_model=models/my.keras", "--own_data=/data/photos")
    assert "write the line `data_dir_seven_own_model = " in message
    assert "embedded" not in message


def test_every_flag_that_is_a_path_is_known():
    """A new flag of free text must be sorted here: does it name a file or folder of the machine?"""
    no_paths = {"data_disk", "data_dir_hdfs", "data_hdfs_host", "model_http_url", "kd_teacher"}
    no_paths |= {"own_split", "own_image_size", "own_rescale", "own_mean", "own_std", "export_formats"}
    texts = {
        name
        for group in command_line.FLAG_GROUPS
        for name, field in flag_fields(group).items()
        if isinstance(field.default, str) and field.metadata["choices"] is None
    }
    assert texts - no_paths == {*cluster_paths.READ_PATHS, *cluster_paths.WRITTEN_PATHS}
