"""run_docker.sh in a copy of the repository's scripts, with a stand-in for `docker` that records what it is told."""

import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import command_line
from utils.flags import flag_fields

SCRIPTS = Path(__file__).parents[2] / "scripts"

# Answers as `engine.json` beside it says, and writes each call's words to `calls`, one JSON list a line.
DOCKER = """\
import json, os, pathlib, signal, sys, time
here = pathlib.Path(__file__).parent
engine = json.loads((here / "engine.json").read_text())
words = sys.argv[1:]
with open(here / "calls", "a") as file:
    file.write(json.dumps(words) + "\\n")
(here / "buildkit").write_text(os.environ.get("DOCKER_BUILDKIT", "unset"))
if words[0] == "info":
    if not engine["is_running"]:
        sys.exit("Cannot connect to the Docker daemon. Is the docker daemon running?")
    print(json.dumps(engine["security"]))
elif words[:2] == ["image", "inspect"]:
    sys.exit(0 if words[-1] in engine["images"] else 1)
elif words[0] == "build":
    print("step 1 of 1")
    sys.exit(engine["build"])
elif words[0] == "pull":
    if engine["pull"]:
        sys.exit("Error response from daemon: manifest unknown")
elif words[0] == "run":
    if engine["waits"]:
        def stop(number, frame):
            (here / "signal").write_text(signal.Signals(number).name)
            sys.exit(128 + number)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        (here / "pid").write_text(str(os.getpid()))
        time.sleep(60)
    sys.exit(engine["run"])
else:
    sys.exit(f"unexpected: {words}")
"""

# index, memory used, memory total (MiB), utilisation (%): 1 is computing, 4 is full of someone's model.
FIVE_GPUS = "0, 900, 16000, 0\n1, 300, 16000, 97\n2, 12, 16000, 3\n3, 400, 16000, [N/A]\n4, 15000, 16000, 0\n"


class Checkout:
    """A git repository with the scripts, all of it committed, and a PATH that starts with a folder of stand-ins."""

    def __init__(self, folder: Path):
        self.root = folder / "my repo"
        self.bin = folder / "bin"
        self.home = folder / "home"
        for directory in (self.root / "scripts", self.root / "nets", self.root / "recipes", self.bin, self.home):
            directory.mkdir(parents=True)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "GIT_"))}
        self.env |= {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.home), "GIT_CONFIG_NOSYSTEM": "1"}
        for name in ("lib.sh", "run_docker.sh"):
            shutil.copy(SCRIPTS / name, self.root / "scripts")
        for net in ("a_at_b", "own_model"):
            (self.root / "nets" / f"{net}_run.py").touch()
        (self.root / "recipes/x.yaml").touch()
        (self.root / ".gitignore").write_text("/runs/\n/models/\n/logs/\n/path.conf\n")
        self.git("init", "--quiet")
        self.git("add", "--all")
        identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
        self.git(*identity, "commit", "--quiet", "--message", "all")
        self.commit = self.git("rev-parse", "HEAD").strip()[:12]
        self.write_program("docker", f'exec "{sys.executable}" -ES "{self.bin}/docker.py" "$@"')
        (self.bin / "docker.py").write_text(DOCKER)
        self.engine = {
            "is_running": True, "security": ["name=seccomp,profile=builtin"], "images": [], "build": 0, "pull": 0,
            "run": 0, "waits": False,
        }  # fmt: skip
        self.set_engine()
        self.set_gpus(None)
        self.write_program("nproc", "echo 4")

    def git(self, *words: str) -> str:
        command = ["git", "-C", self.root, *words]
        return subprocess.run(command, env=self.env, check=True, capture_output=True, text=True).stdout

    def write_program(self, name: str, commands: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/usr/bin/env bash\n{commands}\n")
        path.chmod(0o755)

    def set_engine(self, **settings) -> None:
        self.engine |= settings
        (self.bin / "engine.json").write_text(json.dumps(self.engine))

    def set_gpus(self, table: str | None) -> None:
        self.write_program("nvidia-smi", "exit 9" if table is None else f"printf '%s' '{table}'")

    def image(self, variant: str = "cpu") -> str:
        return f"trimflow:{variant}-{self.commit}"

    def run(self, *arguments: str, cwd: Path | None = None, env: dict | None = None, **options):
        (self.bin / "calls").unlink(missing_ok=True)
        return subprocess.run(
            [self.root / "scripts/run_docker.sh", *arguments],
            cwd=cwd or self.root,
            env=self.env | (env or {}),
            **{"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60, **options},
            check=False,
        )

    def calls(self, keyword: str = "") -> list[list[str]]:
        """What docker was told, or those of one keyword."""
        path = self.bin / "calls"
        calls = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call for call in calls if not keyword or call[0] == keyword]

    def started(self, *arguments: str, **options) -> "Container":
        """The container of a command that works."""
        result = self.run(*arguments, **options)
        assert result.returncode == 0, result.stderr
        (words,) = self.calls("run")
        return Container(words)


class Container:
    """The words of `docker run`, taken apart: options, mounts by target (source, `ro` or `rw`), image and command."""

    def __init__(self, words: list[str]):
        self.words = words
        place = next(index for index, word in enumerate(words) if word.startswith("trimflow:") or word == "their/image")
        self.image, self.command = words[place], words[place + 1 :]
        self.options = words[1:place]
        self.mounts = {}
        for option, value in zip(self.options, self.options[1:], strict=False):
            if option == "--mount":
                (fields,) = csv.reader([value])
                named = dict(field.partition("=")[::2] for field in fields)
                assert named["type"] == "bind"
                assert named["target"] not in self.mounts, "docker refuses a place that is mounted twice"
                self.mounts[named["target"]] = (named["source"], "ro" if "readonly" in named else "rw")

    @property
    def main_words(self) -> list[str]:
        return self.command[1:]

    @property
    def extra_mounts(self) -> dict[str, tuple[str, str]]:
        kept = ("/opt/trimflow/runs", "/opt/trimflow/models", "/opt/trimflow/logs")
        return {target: mount for target, mount in self.mounts.items() if target not in kept}


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


def check_refused(checkout: Checkout, result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2
    assert not checkout.calls("run"), "no container must start"
    error = result.stderr.splitlines()[-1]
    assert error.startswith("run_docker.sh: error: ")
    for word in words:
        assert word in error


def test_without_a_gpu_the_commands_are_exactly_these(checkout):
    result = checkout.run("nets/a_at_b_run.py", "--learner", "full-prec")
    assert result.returncode == 0, result.stderr
    root, image = str(checkout.root), checkout.image()
    assert checkout.calls() == [
        ["info", "--format", "{{json .SecurityOptions}}"],
        ["image", "inspect", "--format", "{{.Id}}", image],
        [
            *("build", "--file", f"{root}/docker/Dockerfile", "--target", "cpu"),
            *("--build-arg", f"COMMIT={checkout.commit}", "--tag", image, root),
        ],
        [
            *("run", "--rm", "--init", "--pull=never", "--user", f"{os.getuid()}:{os.getgid()}", "--shm-size=1g"),
            *("--mount", f"type=bind,source={root}/runs,target=/opt/trimflow/runs"),
            *("--mount", f"type=bind,source={root}/models,target=/opt/trimflow/models"),
            *("--mount", f"type=bind,source={root}/logs,target=/opt/trimflow/logs"),
            *("--workdir", "/opt/trimflow", image),
            *("/opt/trimflow/scripts/run_local.sh", "nets/a_at_b_run.py", "--learner", "full-prec"),
        ],
    ]
    assert result.stdout == "", "what docker says of the build is not the run's output"
    assert "step 1 of 1" in result.stderr


def test_results_are_kept_in_folders_that_the_caller_made(checkout):
    checkout.started("nets/a_at_b_run.py")
    for name in ("runs", "models", "logs"):
        assert (checkout.root / name).stat().st_uid == os.getuid()


def test_the_hosts_network_is_never_used(checkout):
    container = checkout.started("nets/a_at_b_run.py", "-n=2")
    shared = ("--net", "--privileged", "--pid", "--ipc", "--publish", "-p", "--cap-add", "--device")
    assert not [word for word in container.options if word.startswith(shared)]


def test_an_image_that_is_there_is_not_built_again(checkout):
    checkout.set_engine(images=[checkout.image()])
    checkout.started("nets/a_at_b_run.py")
    assert [call[0] for call in checkout.calls()] == ["info", "image", "run"]


def test_buildkit_is_asked_for_since_stages_are_left_out(checkout):
    checkout.set_engine(build=1)
    check_refused(checkout, checkout.run("nets/a_at_b_run.py"), "could not be built")
    assert (checkout.bin / "buildkit").read_text() == "1"


@pytest.mark.parametrize("change", ["changed", "new"])
def test_changed_files_get_an_image_of_their_own_that_is_always_built(checkout, change):
    path = checkout.root / {"changed": "nets/a_at_b_run.py", "new": "nets/new_run.py"}[change]
    path.write_text("# changed\n")
    image = checkout.image() + "-dirty"
    checkout.set_engine(images=[image])
    assert checkout.started("nets/a_at_b_run.py").image == image
    (build,) = checkout.calls("build")
    assert build[build.index("--tag") + 1] == image
    assert f"COMMIT={checkout.commit}-dirty" in build


def test_a_copy_without_git_is_built_every_time(checkout):
    shutil.rmtree(checkout.root / ".git")
    checkout.set_engine(images=["trimflow:cpu-unknown-dirty"])
    container = checkout.started("nets/a_at_b_run.py", env={"GIT_CEILING_DIRECTORIES": str(checkout.root.parent)})
    assert container.image == "trimflow:cpu-unknown-dirty"
    assert len(checkout.calls("build")) == 1


@pytest.mark.parametrize("option", [["--image", "their/image"], ["--image=their/image"]])
def test_a_given_image_is_used_and_pulled_only_where_it_is_missing(checkout, option):
    checkout.set_engine(images=["their/image"])
    assert checkout.started("nets/a_at_b_run.py", *option).image == "their/image"
    assert not checkout.calls("pull")
    checkout.set_engine(images=[])
    container = checkout.started("nets/a_at_b_run.py", *option, "--quiet")
    assert checkout.calls("pull") == [["pull", "their/image"]]
    assert not checkout.calls("build")
    assert container.main_words == ["nets/a_at_b_run.py", "--quiet"]


def test_an_image_that_is_not_there_is_an_error(checkout):
    checkout.set_engine(pull=1)
    result = checkout.run("nets/a_at_b_run.py", "--image", "their/image")
    check_refused(checkout, result, "no such image", "--image their/image")
    assert "manifest unknown" in result.stderr


@pytest.mark.parametrize("option", [["--image"], ["--image="], ["--image", "-x"], ["--image", "a b"], ["--image", ""]])
def test_an_images_name_that_is_none_is_refused(checkout, option):
    check_refused(checkout, checkout.run("nets/a_at_b_run.py", *option), "--image takes the name of an image")
    assert not checkout.calls()


def test_without_docker_it_says_what_to_install(checkout, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in (
        "bash",
        "env",
        "dirname",
        "realpath",
        "id",
        "grep",
        "git",
        "tr",
        "cut",
        "awk",
        "sort",
        "mkdir",
        "nproc",
    ):
        (programs / name).symlink_to(shutil.which(name))
    result = checkout.run("nets/a_at_b_run.py", env={"PATH": str(programs)})
    check_refused(checkout, result, "docker was not found", "install Docker Engine", "NVIDIA Container Toolkit")
    assert not (checkout.root / "runs").exists()


def test_an_engine_that_does_not_answer_is_an_error_with_its_reason(checkout):
    checkout.set_engine(is_running=False)
    result = checkout.run("nets/a_at_b_run.py")
    check_refused(checkout, result, "Docker's engine does not answer", "systemctl start docker", "Cannot connect")
    assert {call[0] for call in checkout.calls()} == {"info"}


@pytest.mark.parametrize("code", [1, 2, 7, 130])
def test_exit_code_is_that_of_the_container(checkout, code):
    checkout.set_engine(run=code)
    assert checkout.run("nets/a_at_b_run.py").returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_docker_which_hands_them_to_the_container(checkout, number):
    checkout.set_engine(waits=True, images=[checkout.image()])
    process = subprocess.Popen(
        [checkout.root / "scripts/run_docker.sh", "nets/a_at_b_run.py"],
        env=checkout.env,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while not (checkout.bin / "pid").exists() or not (checkout.bin / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert int((checkout.bin / "pid").read_text()) == process.pid, "docker takes the place of the shell"
    process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    assert (checkout.bin / "signal").read_text() == number.name


def test_a_terminal_is_handed_on_where_there_is_one(checkout):
    checkout.set_engine(images=[checkout.image()])
    outer, inner = pty.openpty()
    try:
        assert checkout.run("nets/a_at_b_run.py", stdin=inner, stdout=inner, capture_output=False).returncode == 0
        (words,) = checkout.calls("run")
        assert words[words.index("--interactive") + 1] == "--tty"
        assert checkout.run("nets/a_at_b_run.py", stdin=inner).returncode == 0
        assert "--tty" not in checkout.calls("run")[0]
    finally:
        os.close(outer)
        os.close(inner)


@pytest.mark.parametrize(
    ("security", "user", "option"),
    [
        (["name=seccomp,profile=builtin"], None, ""),
        (["name=rootless"], "0:0", ""),
        (["name=userns"], None, "--userns=host"),
        (["name=seccomp,profile=builtin", "name=selinux"], None, "--security-opt label=disable"),
    ],
)
def test_files_are_the_callers_however_the_engine_isolates(checkout, security, user, option):
    checkout.set_engine(security=security)
    words = checkout.started("nets/a_at_b_run.py").options
    assert words[words.index("--user") + 1] == (user or f"{os.getuid()}:{os.getgid()}")
    isolation = [word for word in words if word.startswith(("--userns", "--security-opt", "label="))]
    assert " ".join(isolation) == option


def test_flags_reach_main_as_they_were_typed(checkout, tmp_path):
    flags = ["--note=$(touch hacked) `id` 'x' \"y\" *", "", "--n=3", "ünï", "a;b", "-x", "line\nbreak"]
    assert checkout.started("nets/a_at_b_run.py", *flags).main_words == ["nets/a_at_b_run.py", *flags]
    assert not list(tmp_path.rglob("hacked"))


def test_the_number_of_processes_is_handed_to_run_local(checkout):
    for option in ("-n=4", "--nb_gpus=4"):
        container = checkout.started("nets/a_at_b_run.py", "--quiet", option)
        assert container.main_words == ["nets/a_at_b_run.py", "-n=4", "--quiet"]
    assert checkout.started("nets/a_at_b_run.py", "-n=1").main_words == ["nets/a_at_b_run.py"]


@pytest.mark.parametrize("option", ["-n=0", "-n=x", "-n=", "-n", "--nb_gpus", "--nb_gpus=-1", "-n=1.5", "-n=01"])
def test_a_number_that_is_none_is_refused(checkout, option):
    check_refused(checkout, checkout.run("nets/a_at_b_run.py", option), "at least 1", f"Received: {option}")


def test_more_processes_than_cores_are_refused_before_an_image_is_built(checkout):
    for gpus, env in [(None, {}), (FIVE_GPUS, {"CUDA_VISIBLE_DEVICES": ""})]:
        checkout.set_gpus(gpus)
        assert checkout.started("nets/a_at_b_run.py", "-n=4", env=env).image == checkout.image("cpu")
        result = checkout.run("nets/a_at_b_run.py", "-n=5", env=env)
        check_refused(checkout, result, "at most the number of cores, 4", "Received: 5")
        assert not checkout.calls()


@pytest.mark.parametrize("option", ["-H", "-H=a:2", "--hostfile=x"])
def test_several_machines_are_refused_with_where_to_go(checkout, option):
    check_refused(checkout, checkout.run("nets/a_at_b_run.py", option), "run_seven.sh")


def test_the_emptiest_idle_gpus_are_handed_to_the_container(checkout):
    checkout.set_gpus(FIVE_GPUS)
    container = checkout.started("nets/a_at_b_run.py")
    assert container.image == checkout.image("gpu")
    assert checkout.calls("build")[0][3:5] == ["--target", "gpu"]
    place = container.options.index("--gpus")
    assert container.options[place : place + 6] == [
        *("--gpus", '"device=2"'),
        *("--env", "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        *("--env", "CUDA_VISIBLE_DEVICES=0"),
    ]
    container = checkout.started("nets/a_at_b_run.py", "-n=3")
    assert '"device=2,3,0"' in container.options
    assert "CUDA_VISIBLE_DEVICES=0,1,2" in container.options


def test_more_gpus_than_idle_are_refused_before_docker_is_asked(checkout):
    checkout.set_gpus(FIVE_GPUS)
    check_refused(checkout, checkout.run("nets/a_at_b_run.py", "-n=4"), "this machine has 5, 3 of them idle", "4")
    assert not checkout.calls()


def test_a_choice_of_gpus_already_made_is_kept(checkout):
    checkout.set_gpus(FIVE_GPUS)
    container = checkout.started("nets/a_at_b_run.py", "-n=2", env={"CUDA_VISIBLE_DEVICES": "4,GPU-12ab"})
    assert '"device=4,GPU-12ab"' in container.options
    assert "CUDA_VISIBLE_DEVICES=0,1" in container.options
    result = checkout.run("nets/a_at_b_run.py", "-n=3", env={"CUDA_VISIBLE_DEVICES": "1,4"})
    check_refused(checkout, result, "CUDA_VISIBLE_DEVICES=1,4, 2", "Received: 3")
    result = checkout.run("nets/a_at_b_run.py", env={"CUDA_VISIBLE_DEVICES": '0"'})
    check_refused(checkout, result, "CUDA_VISIBLE_DEVICES must be")
    for none in ("", "-1"):
        container = checkout.started("nets/a_at_b_run.py", env={"CUDA_VISIBLE_DEVICES": none})
        assert container.image == checkout.image("cpu")
        assert "--gpus" not in container.options


def test_own_network_and_data_are_found_from_the_callers_directory(checkout, tmp_path):
    here = tmp_path / "here; there"
    (here / "photos").mkdir(parents=True)
    (here / 'my, "net".keras').touch()
    flags = ["--own_model", 'my, "net".keras', "--own_data=photos"]
    container = checkout.started("nets/own_model_run.py", *flags, cwd=here)
    model, photos = f'{here}/my, "net".keras', f"{here}/photos"
    assert container.main_words == ["nets/own_model_run.py", "--own_model", model, f"--own_data={photos}"]
    assert container.extra_mounts == {model: (model, "ro"), photos: (photos, "ro")}
    assert container.options[-2:] == ["--workdir", "/opt/trimflow"]


def test_own_data_is_found_from_the_root_and_the_home_too(checkout):
    (checkout.home / "photos").mkdir()
    (checkout.root / "data").mkdir()
    photos, data = str(checkout.home / "photos"), str(checkout.root / "data")
    flags = ["--own_data=~/photos", "--own_data", "data"]
    container = checkout.started("nets/own_model_run.py", *flags, cwd=checkout.home)
    assert container.main_words[1:] == [f"--own_data={photos}", "--own_data", data]
    assert container.extra_mounts == {photos: (photos, "ro"), data: (data, "ro")}
    check_refused(checkout, checkout.run("nets/own_model_run.py", "--own_data=nowhere"), "--own_data must be there")


def test_a_function_that_makes_the_network_is_imported_from_the_callers_directory(checkout, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    container = checkout.started("nets/own_model_run.py", "--own_model", "nets.mine:make", cwd=here)
    assert container.main_words == ["nets/own_model_run.py", "--own_model", "nets.mine:make"]
    assert container.extra_mounts == {str(here): (str(here), "ro")}
    assert container.options[-2:] == ["--workdir", str(here)]
    container = checkout.started("nets/own_model_run.py", "--own_model", "mine:make")
    assert (container.extra_mounts, container.options[-1]) == ({}, "/opt/trimflow")
    result = checkout.run("nets/own_model_run.py", "--own_model", "mine:make", cwd=Path("/usr"))
    check_refused(checkout, result, "/usr cannot be mounted")


def test_folders_that_are_written_are_made_and_can_be_written(checkout, tmp_path):
    flags = ["--run_dir", f"{tmp_path}/out/run 1", f"--log_dir={tmp_path}/out/logs"]
    flags += ["--save_path", f"{tmp_path}/m/dense.keras", "-ws_save_path", f"{tmp_path}/m/small.keras"]
    container = checkout.started("nets/a_at_b_run.py", *flags)
    assert container.main_words[1:] == flags, "a run is the same one in a container and outside"
    folders = [f"{tmp_path}/out/run 1", f"{tmp_path}/out/logs", f"{tmp_path}/m"]
    assert container.extra_mounts == {folder: (folder, "rw") for folder in folders}
    assert all(Path(folder).is_dir() for folder in folders)


def test_a_dense_model_that_is_there_is_only_read(checkout, tmp_path):
    dense = tmp_path / "dense.keras"
    dense.touch()
    container = checkout.started("nets/a_at_b_run.py", "--save_path", str(dense))
    assert container.extra_mounts == {str(dense): (str(dense), "ro")}
    both = ["--save_path", str(dense), "--own_data", str(tmp_path), "--run_dir", str(tmp_path)]
    assert checkout.started("nets/a_at_b_run.py", *both).mounts[str(tmp_path)] == (str(tmp_path), "rw")


def test_files_that_are_read_are_mounted_read_only(checkout, tmp_path):
    for name in ("c.yaml", "t.keras", "e.keras"):
        (tmp_path / name).touch()
    (tmp_path / "data").mkdir()
    paths = {"compress": "c.yaml", "kd_resume": "t.keras", "save_path_eval": "e.keras", "data_dir_local": "data"}
    flags = [f"--{name}={tmp_path}/{path}" for name, path in paths.items()]
    container = checkout.started("nets/a_at_b_run.py", *flags)
    assert container.main_words[1:] == flags
    assert container.extra_mounts == {f"{tmp_path}/{path}": (f"{tmp_path}/{path}", "ro") for path in paths.values()}
    for name in paths:
        result = checkout.run("nets/a_at_b_run.py", f"--{name}", f"{tmp_path}/nowhere")
        check_refused(checkout, result, f"--{name} must be there. Received: {tmp_path}/nowhere")


def test_relative_paths_start_at_the_repository_there_as_here(checkout, tmp_path):
    flags = ["--compress", "recipes/x.yaml", "--run_dir=runs/mine", "--save_path", "./models/../models/a.keras"]
    flags += ["--save_path_eval", "./runs/mine/model.keras", "--ws_save_path="]
    container = checkout.started("nets/a_at_b_run.py", *flags, cwd=tmp_path)
    recipe, models = f"{checkout.root}/recipes/x.yaml", f"{checkout.root}/models"
    # The engine could not follow `..`; so that one becomes absolute, and is mounted there.
    words = [*flags[:4], f"{models}/a.keras", *flags[5:]]
    assert container.main_words[1:] == words
    assert container.extra_mounts == {
        "/opt/trimflow/recipes/x.yaml": (recipe, "ro"),
        models: (models, "rw"),
    }


def test_links_are_followed_and_keep_their_names(checkout, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    (checkout.root / "runs").symlink_to(tmp_path / "disk")
    container = checkout.started("nets/a_at_b_run.py", f"--data_dir_local={tmp_path}/data/")
    assert container.extra_mounts == {f"{tmp_path}/data": (f"{tmp_path}/disk", "ro")}
    assert container.mounts["/opt/trimflow/runs"] == (f"{tmp_path}/disk", "rw")


@pytest.mark.parametrize(
    "flags",
    [
        ["--own_data", "/"],
        ["--data_dir_local", "/usr/"],
        ["--run_dir", "/tmp"],
        ["--run_dir", "."],
        ["--save_path", "dense.keras"],
        ["--ws_save_path", "/tmp/x.keras"],
        ["--ws_paths", "/tmp/paths.npz"],
    ],
)
def test_what_would_hide_a_part_of_the_container_is_refused(checkout, flags):
    result = checkout.run("nets/a_at_b_run.py", *flags)
    check_refused(checkout, result, flags[0], "cannot be mounted", f"Received: {flags[1]}")


def test_path_conf_and_the_data_sets_folder_are_mounted(checkout, tmp_path):
    for name in ("b", "other"):
        (tmp_path / name).mkdir()
    conf = checkout.root / "path.conf"
    conf.write_text(f"# data\r\ndata_dir_local_other = {tmp_path}/other\n data_dir_local_b={tmp_path}/b \r\n")
    container = checkout.started("nets/a_at_b_run.py", "--quiet")
    assert container.main_words == ["nets/a_at_b_run.py", "--quiet", "--data_dir_local", "/data/b"]
    mounted_conf = {"/opt/trimflow/path.conf": (str(conf), "ro")}
    assert container.extra_mounts == {**mounted_conf, "/data/b": (f"{tmp_path}/b", "ro")}

    given = checkout.started("nets/a_at_b_run.py", f"--data_dir_local={tmp_path}/other")
    assert given.extra_mounts == {**mounted_conf, f"{tmp_path}/other": (f"{tmp_path}/other", "ro")}
    for flags in (["--data_disk=embedded"], ["--data_disk", "hdfs"]):
        embedded = checkout.started("nets/a_at_b_run.py", *flags)
        assert embedded.extra_mounts == mounted_conf
        assert embedded.main_words[1:] == flags
    local = checkout.started("nets/a_at_b_run.py", "--data_disk", "local")
    assert local.extra_mounts == container.extra_mounts
    own = checkout.started("nets/own_model_run.py", "--own_model", str(conf))
    assert own.extra_mounts == {str(conf): (str(conf), "ro")}


@pytest.mark.parametrize("value", ["None", "", "None  "])
def test_what_path_conf_leaves_unset_is_not_mounted(checkout, value):
    (checkout.root / "path.conf").write_text(f"data_dir_local_b = {value}")
    assert "--data_dir_local" not in checkout.started("nets/a_at_b_run.py").main_words


def test_path_confs_folders_start_at_the_home_or_the_repository(checkout):
    for folder, value in [(checkout.home / "my b", "~/my b"), (checkout.root / "data/b", "data/b")]:
        conf = checkout.root / "path.conf"
        conf.write_text(f"data_dir_local_b = {value}")
        check_refused(checkout, checkout.run("nets/a_at_b_run.py"), "data_dir_local_b in path.conf", str(folder))
        folder.mkdir(parents=True)
        assert checkout.started("nets/a_at_b_run.py").mounts["/data/b"] == (str(folder), "ro")


def test_own_net_scripts_are_mounted_with_what_lies_beside_them(checkout, tmp_path):
    own = tmp_path / "mine/x_at_b_run.py"
    own.parent.mkdir()
    own.touch()
    container = checkout.started("mine/x_at_b_run.py", cwd=tmp_path)
    assert container.main_words == [str(own)]
    assert container.extra_mounts == {str(own.parent): (str(own.parent), "ro")}
    inside = checkout.root / "my nets"
    inside.mkdir()
    (inside / "y_run.py").touch()
    (checkout.root / "z_run.py").touch()
    container = checkout.started("my nets/y_run.py")
    assert container.main_words == ["my nets/y_run.py"]
    assert container.extra_mounts == {"/opt/trimflow/my nets": (str(inside), "ro")}
    container = checkout.started("z_run.py")
    assert container.extra_mounts == {"/opt/trimflow/z_run.py": (f"{checkout.root}/z_run.py", "ro")}


def test_a_missing_net_script_is_refused_with_those_there_are(checkout):
    known = "There are: nets/a_at_b_run.py nets/own_model_run.py"
    check_refused(checkout, checkout.run("nets/x_run.py"), "Received: nets/x_run.py", known)
    check_refused(checkout, checkout.run(), "Received: nothing", known)
    check_refused(checkout, checkout.run("--learner", "full-prec"), "Received: --learner", known)


def test_dry_run_prints_what_would_be_run_and_runs_nothing(checkout, tmp_path):
    odd = tmp_path / 'it\'s; $(touch hacked), "odd"'
    odd.mkdir()
    words = ["nets/a_at_b_run.py", "-n=2", "--run_dir", f"{odd}/run", "--note", "-a  b\n'c'"]
    printed = checkout.run(*words, "--dry_run")
    assert printed.returncode == 0, printed.stderr
    assert not checkout.calls()
    assert not (checkout.root / "runs").exists()
    shell = subprocess.run(["bash", "-e"], input=printed.stdout, env=checkout.env, text=True, cwd="/", check=False)
    assert shell.returncode == 0
    pasted = checkout.calls()
    assert (odd / "run").is_dir()
    assert not list(tmp_path.rglob("hacked"))
    checkout.started(*words)
    assert pasted == [call for call in checkout.calls() if call[0] != "info"]


def test_dry_run_prints_the_commands_of_each_way_to_an_image(checkout):
    (checkout.bin / "docker").unlink()
    lines = checkout.run("nets/a_at_b_run.py", "--dry_run", "--image", "their/image").stdout.splitlines()
    assert lines[1].endswith(" their/image >/dev/null 2>&1 || docker pull their/image")
    (checkout.root / "nets/a_at_b_run.py").write_text("# changed\n")
    lines = checkout.run("nets/a_at_b_run.py", "--dry_run").stdout.splitlines()
    assert lines[1].startswith("env DOCKER_BUILDKIT=1 docker build ")


def test_mains_own_dry_run_goes_after_two_dashes(checkout):
    words = ["--learner", "scheduled", "--compress", "recipes/x.yaml"]
    container = checkout.started("nets/a_at_b_run.py", *words[:2], "--", *words[2:], "--dry_run", "-n=3", "--help")
    assert container.main_words[1:] == [*words, "--dry_run", "-n=3", "--help"]
    assert "/opt/trimflow/recipes/x.yaml" in container.mounts


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_needs_no_docker(checkout, option):
    (checkout.bin / "docker").unlink()
    result = checkout.run("nets/a_at_b_run.py", option)
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: scripts/run_docker.sh NET_SCRIPT")


def test_every_flag_that_may_be_a_path_is_known_here():
    script = (SCRIPTS / "run_docker.sh").read_text()
    arms = re.search(r"^translate\(\) \{.*?^}", script, re.DOTALL | re.MULTILINE)[0]
    known = set(re.findall(r"^ {8}([a-z_ |]+)\)", arms, re.MULTILINE))
    known = {name.strip() for arm in known for name in arm.split("|")}
    texts = {
        name
        for group in command_line.FLAG_GROUPS
        for name, field in flag_fields(group).items()
        if isinstance(field.default, str) and not field.metadata["choices"]
    }
    no_paths = {
        *("data_disk", "data_dir_hdfs", "data_hdfs_host", "model_http_url", "kd_teacher"),
        *("own_split", "own_image_size", "own_rescale", "own_mean", "own_std", "export_formats"),
    }
    assert known == texts - no_paths
