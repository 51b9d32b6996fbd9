"""run_local.sh in a copy of the repository's scripts, with stand-ins for main.py, .venv and nvidia-smi."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

RECORDING_MAIN = """\
import json, os, sys
names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "TF_CPP_MIN_LOG_LEVEL")
env = {name: os.environ[name] for name in names if name in os.environ}
caller = os.environ.get("TRIMFLOW_CALLER_DIRECTORY")
print(json.dumps({"arguments": sys.argv, "env": env, "cwd": os.getcwd(), "pid": os.getpid(), "caller": caller}))
sys.exit(7 if "--fail" in sys.argv else 0)
"""

# index, memory used, memory total (MiB), utilisation (%): 1 is computing, 4 is full of someone's model.
FIVE_GPUS = "0, 900, 16000, 0\n1, 300, 16000, 97\n2, 12, 16000, 3\n3, 400, 16000, [N/A]\n4, 15000, 16000, 0\n"


class Checkout:
    """A repository with the scripts and a finished .venv, and a PATH that starts with a folder of stand-ins."""

    def __init__(self, folder: Path):
        self.root = folder / "my repo"
        self.bin = folder / "bin"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "TF_"))}
        self.env["PATH"] = f"{self.bin}:{os.environ['PATH']}"
        for directory in ("scripts", "requirements", "nets", ".venv/bin"):
            (self.root / directory).mkdir(parents=True)
        self.bin.mkdir()
        for name in ("lib.sh", "run_local.sh", "setup_venv.sh"):
            shutil.copy(SCRIPTS / name, self.root / "scripts")
        for variant in ("cpu", "gpu"):
            (self.root / "requirements" / f"{variant}.lock").write_text(f"# the {variant} lock\n")
        for net in ("a_at_b", "c_at_d"):
            (self.root / "nets" / f"{net}_run.py").touch()
        (self.root / "main.py").write_text(RECORDING_MAIN)
        (self.root / "launchers").mkdir()
        (self.root / "launchers/horovod.py").write_text(RECORDING_MAIN)
        self.write_program(self.root / "scripts/install_horovod.sh", f'echo "$*" >>"{self.bin}/horovods"')
        self.write_program(self.bin / "nproc", "echo 8")
        self.write_program(self.root / ".venv/bin/python", f'exec "{sys.executable}" "$@"')
        self.finish_venv("cpu")
        self.set_gpus(None)

    @staticmethod
    def write_program(path: Path, commands: str) -> None:
        path.write_text(f"#!/usr/bin/env bash\n{commands}\n")
        path.chmod(0o755)

    def finish_venv(self, variant: str) -> None:
        digest = hashlib.sha256((self.root / "requirements" / f"{variant}.lock").read_bytes()).hexdigest()
        (self.root / ".venv/trimflow-stamp").write_text(f"{variant} {digest}\n")

    def set_gpus(self, table: str | None) -> None:
        """nvidia-smi answers with `table`, or, for None, as where no driver is loaded; its arguments are recorded."""
        answer = "exit 9" if table is None else f"printf '%s' '{table}'"
        self.write_program(self.bin / "nvidia-smi", f'echo "$*" >>"{self.bin}/queries"\n{answer}')
        if table is not None:
            self.finish_venv("gpu")

    def run(self, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [self.root / "scripts/run_local.sh", *arguments],
            cwd=cwd or self.root,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def started(self, *arguments: str, **options) -> dict:
        """What main.py was started with."""
        result = self.run(*arguments, **options)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


def check_refused(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2
    assert result.stdout == "", "main.py must not start"
    error = result.stderr.splitlines()[-1]
    for word in words:
        assert word in error


def test_flags_reach_main_as_they_were_typed(checkout):
    flags = ["--save_path", "a b", "--note=$(touch hacked) `id` 'x' \"y\" *", "", "--n=3", "ünï"]
    started = checkout.started("nets/a_at_b_run.py", *flags)
    assert started["arguments"] == ["main.py", "nets/a_at_b_run.py", *flags]
    assert not (checkout.root / "hacked").exists()


@pytest.mark.parametrize(
    "name", ["a b; touch hacked", "$(touch hacked)", "`touch hacked`", 'it\'s "x"', "*", "new\nline"]
)
def test_a_net_script_a_folder_and_a_run_directory_of_any_name_are_taken_as_they_are(checkout, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name}_run.py").touch()
    flags = ["--run_dir", name, f"--own_data={name}", "--own_model", f"{name}.keras", f"--data_hdfs_host={name}", name]
    started = checkout.started(f"./{name}_run.py", *flags, cwd=folder)
    assert started["arguments"] == ["main.py", str(folder / f"{name}_run.py"), *flags]
    assert started["caller"] == str(folder)
    assert not list(tmp_path.rglob("hacked"))
    refused = checkout.run(f"{name}/none_run.py")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"no such net script. Received: {name}/none_run.py" in refused.stderr
    assert not list(tmp_path.rglob("hacked"))


def test_a_net_script_whose_name_begins_with_a_hyphen_is_no_flag(checkout):
    (checkout.root / "-n_run.py").touch()
    check_refused(checkout.run("-n_run.py"), "the first argument must be a net script")
    assert checkout.started("./-n_run.py")["arguments"][1:] == ["./-n_run.py"]
    number = checkout.run("nets/a_at_b_run.py", "-n=a[$(touch hacked)]")
    check_refused(number, "take a number of processes")
    assert not list(checkout.root.rglob("hacked"))


def test_main_runs_at_the_root_in_place_of_the_shell(checkout):
    process = subprocess.Popen(
        [checkout.root / "scripts/run_local.sh", "nets/a_at_b_run.py"], env=checkout.env, stdout=subprocess.PIPE
    )
    started = json.loads(process.communicate(timeout=60)[0])
    assert started["pid"] == process.pid, "signals must reach Python"
    assert started["cwd"] == str(checkout.root)


def test_exit_code_is_that_of_main(checkout):
    assert checkout.run("nets/a_at_b_run.py", "--fail").returncode == 7


def test_net_script_is_found_from_the_callers_directory_first(checkout, tmp_path):
    assert checkout.started("a_at_b_run.py", cwd=checkout.root / "nets")["arguments"][1] == "nets/a_at_b_run.py"
    assert checkout.started("nets/a_at_b_run.py", cwd=tmp_path)["arguments"][1] == "nets/a_at_b_run.py"
    (tmp_path / "nets").mkdir()
    own = tmp_path / "nets/a_at_b_run.py"
    own.touch()
    assert checkout.started("nets/a_at_b_run.py", cwd=tmp_path)["arguments"][1] == str(own)


def test_main_is_told_where_the_user_stands(checkout, tmp_path):
    started = checkout.started("nets/a_at_b_run.py", cwd=tmp_path, TRIMFLOW_CALLER_DIRECTORY="/of/an/earlier/call")
    assert (started["caller"], started["cwd"]) == (str(tmp_path), str(checkout.root))


def test_missing_net_script_is_refused_with_those_there_are(checkout):
    known = "There are: nets/a_at_b_run.py nets/c_at_d_run.py"
    check_refused(checkout.run("nets/x y_run.py"), "Received: nets/x y_run.py", known)
    check_refused(checkout.run("nets"), "Received: nets", known)
    check_refused(checkout.run(), "Received: nothing", known)
    result = checkout.run("--learner", "full-prec")
    check_refused(result, "Received: --learner", known)
    assert "Usage: scripts/run_local.sh NET_SCRIPT" in result.stderr


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_shows_usage_then_that_of_main(checkout, option):
    lines = checkout.run("nets/a_at_b_run.py", option).stdout.splitlines()
    assert lines[0].startswith("Usage: scripts/run_local.sh NET_SCRIPT")
    assert json.loads(lines[-1])["arguments"] == ["main.py", "--help"]


def test_help_installs_nothing(checkout):
    shutil.rmtree(checkout.root / ".venv")
    result = checkout.run("--help")
    assert result.returncode == 0
    assert "scripts/setup_venv.sh makes it" in result.stdout
    assert not (checkout.root / ".venv").exists()


def test_tensorflow_is_quiet_unless_the_user_says_otherwise(checkout):
    assert checkout.started("nets/a_at_b_run.py")["env"]["TF_CPP_MIN_LOG_LEVEL"] == "2"
    assert checkout.started("nets/a_at_b_run.py", TF_CPP_MIN_LOG_LEVEL="0")["env"]["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_without_a_gpu_the_cpu_is_used_and_nothing_chosen(checkout):
    for options in ([], ["-n=1"], ["--nb_gpus=1"]):
        started = checkout.started("nets/a_at_b_run.py", *options)
        assert started["arguments"] == ["main.py", "nets/a_at_b_run.py"]
        assert "CUDA_VISIBLE_DEVICES" not in started["env"]
    assert not (checkout.bin / "horovods").exists()


def launched(checkout: Checkout, *arguments: str, **options) -> list[str]:
    """What launchers.horovod was started with."""
    started = checkout.started(*arguments, **options)
    assert started["arguments"][0] == str(checkout.root / "launchers/horovod.py")
    assert started["cwd"] == str(checkout.root)
    return started["arguments"][1:]


@pytest.mark.parametrize("option", ["-n=8", "--nb_gpus=8"])
def test_several_processes_use_the_cores_where_there_is_no_gpu(checkout, option):
    words = launched(checkout, "nets/a_at_b_run.py", "--debug", option, "--note", "a b")
    assert words == ["-n=8", "--", "nets/a_at_b_run.py", "--debug", "--note", "a b"]
    assert (checkout.bin / "horovods").read_text() == "cpu\n"


def test_more_processes_than_cores_are_refused_before_anything_is_installed(checkout):
    shutil.rmtree(checkout.root / ".venv")
    check_refused(checkout.run("nets/a_at_b_run.py", "-n=9"), "number of cores, 8", "-H localhost:9", "Received: 9")
    assert not (checkout.root / ".venv").exists()
    assert not (checkout.bin / "horovods").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-H", "h1:2,h2:2"], ["-H=h1:2,h2:2"]),
        (["-H=h1:2,h2:2", "-n=3"], ["-n=3", "-H=h1:2,h2:2"]),
        (["-H", "localhost:99", "-n=1"], ["-n=1", "-H=localhost:99"]),
        (["--hostfile", "my hosts"], ["--hostfile=my hosts"]),
        (["--hostfile=f", "--wait_for_hosts=300"], ["--hostfile=f", "--wait_for_hosts=300"]),
        (
            ["-H=h:1", "--ssh_port=2", "--ssh_identity_file=k", "--network_interface=eth0"],
            ["-H=h:1", "--ssh_port=2", "--ssh_identity_file=k", "--network_interface=eth0"],
        ),
        (["-H", "-oProxyCommand=x"], ["-H=-oProxyCommand=x"]),
    ],
)
def test_hosts_are_handed_to_the_launcher(checkout, options, words):
    flags = ["--learner", "full-prec"]
    assert launched(checkout, "nets/a_at_b_run.py", *options, *flags) == [*words, "--", "nets/a_at_b_run.py", *flags]


def test_hosts_leave_the_choice_of_gpus_to_the_user(checkout):
    checkout.set_gpus(FIVE_GPUS)
    assert "CUDA_VISIBLE_DEVICES" not in checkout.started("nets/a_at_b_run.py", "-H=localhost:5")["env"]
    assert (checkout.bin / "horovods").read_text() == "gpu\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-H"], ["-H takes a value"]),
        (["--hostfile"], ["--hostfile takes a value"]),
        (["-H=a:1", "--hostfile", "f"], ["once", "Received: --hostfile=f"]),
        (["-H", "a:1", "-H", "b:1"], ["once", "Received: -H=b:1"]),
        (["-n=2", "--ssh_port=22"], ["-H or --hostfile is needed with --ssh_port"]),
        (["--wait_for_hosts=9"], ["-H or --hostfile is needed with --wait_for_hosts"]),
    ],
)
def test_hosts_that_are_not_said_rightly_are_refused(checkout, options, words):
    check_refused(checkout.run("nets/a_at_b_run.py", *options), *words)


def test_the_launcher_takes_the_place_of_the_shell_too(checkout):
    process = subprocess.Popen(
        [checkout.root / "scripts/run_local.sh", "nets/a_at_b_run.py", "-n=2", "--fail"],
        env=checkout.env,
        stdout=subprocess.PIPE,
    )
    started = json.loads(process.communicate(timeout=60)[0])
    assert (started["pid"], process.returncode) == (process.pid, 7)


def test_where_horovod_cannot_be_built_nothing_starts(checkout):
    checkout.write_program(checkout.root / "scripts/install_horovod.sh", "echo 'error: no cmake' >&2; exit 2")
    check_refused(checkout.run("nets/a_at_b_run.py", "-n=2"), "no cmake")


def test_the_emptiest_idle_gpu_is_taken(checkout):
    checkout.set_gpus(FIVE_GPUS)
    started = checkout.started("nets/a_at_b_run.py")
    assert started["arguments"] == ["main.py", "nets/a_at_b_run.py"]
    assert started["env"]["CUDA_VISIBLE_DEVICES"] == "2"
    assert started["env"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert (checkout.bin / "queries").read_text().splitlines() == [
        "--query-gpu=index,memory.used,memory.total,utilization.gpu --format=csv,noheader,nounits"
    ]


def test_several_processes_take_the_emptiest_idle_gpus(checkout):
    checkout.set_gpus(FIVE_GPUS)
    started = checkout.started("nets/a_at_b_run.py", "-n=3", "--ws_nb_rlouts", "9")
    assert started["arguments"][1:] == ["-n=3", "--", "nets/a_at_b_run.py", "--ws_nb_rlouts", "9"]
    assert started["env"]["CUDA_VISIBLE_DEVICES"] == "2,3,0"


def test_more_gpus_than_idle_are_refused_before_anything_is_installed(checkout):
    checkout.set_gpus(FIVE_GPUS)
    shutil.rmtree(checkout.root / ".venv")
    for number in ("4", "9"):
        result = checkout.run("nets/a_at_b_run.py", f"-n={number}")
        check_refused(result, "this machine has 5, 3 of them idle", f"Received: {number}")
    assert not (checkout.root / ".venv").exists()


def test_busy_gpus_are_not_shared_unasked(checkout):
    checkout.set_gpus("0, 15000, 16000, 99\n")
    check_refused(checkout.run("nets/a_at_b_run.py"), "this machine has 1, 0 of them idle")
    assert checkout.started("nets/a_at_b_run.py", CUDA_VISIBLE_DEVICES="0")["env"]["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_gpu_whose_program_has_just_ended_is_idle(checkout):
    """What nvidia-smi said on an H200 right after a program: no memory used, still 100% busy."""
    checkout.set_gpus("0, 0, 143771, 100\n")
    asked = f'"{checkout.bin}/asked"'
    answers = f"if [[ -f {asked} ]]; then echo 0, 0, 143771, 0; else echo 0, 0, 143771, 100; fi"
    checkout.write_program(checkout.bin / "nvidia-smi", f"{answers}\ntouch {asked}")
    assert checkout.started("nets/a_at_b_run.py")["env"]["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_choice_of_gpus_already_made_is_kept(checkout):
    checkout.set_gpus(FIVE_GPUS)
    for chosen, number in [("1,4", "2"), ("GPU-12ab", "1"), ("", "1"), ("-1", "1"), ("", "8"), ("-1", "8")]:
        started = checkout.started("nets/a_at_b_run.py", f"-n={number}", CUDA_VISIBLE_DEVICES=chosen)
        assert started["env"]["CUDA_VISIBLE_DEVICES"] == chosen
    result = checkout.run("nets/a_at_b_run.py", "-n=3", CUDA_VISIBLE_DEVICES="1,4")
    check_refused(result, "CUDA_VISIBLE_DEVICES=1,4", "Received: 3")
    # None of them: the cores.
    for chosen in ("", "-1"):
        result = checkout.run("nets/a_at_b_run.py", "-n=9", CUDA_VISIBLE_DEVICES=chosen)
        check_refused(result, "number of cores, 8", "Received: 9")


@pytest.mark.parametrize(
    "option", ["-n=0", "-n=x", "-n=", "-n", "--nb_gpus", "--nb_gpus=-1", "-n=1.5", "-n=01", "-n=99999999999999999999"]
)
def test_a_number_of_gpus_that_is_none_is_refused(checkout, option):
    check_refused(checkout.run("nets/a_at_b_run.py", option), "at least 1", f"Received: {option}")


def test_start_costs_well_under_a_second_before_python(checkout):
    checkout.write_program(checkout.root / ".venv/bin/python", "exit 0")
    began = time.monotonic()
    assert checkout.run("nets/a_at_b_run.py").returncode == 0
    assert time.monotonic() - began < 1
