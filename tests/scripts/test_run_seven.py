"""run_seven.sh in a copy of the repository, with a stand-in for kubectl that answers from a list and records calls."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.launchers.cluster_objects import container_waiting, job, launcher, pod, unschedulable

ROOT = Path(__file__).parents[2]
NET = "nets/resnet_at_cifar10_run.py"
CONF = """\
data_dir_seven_cifar10 = pvc:data/cifar10
data_dir_seven_runs = /mnt/runs
image_seven = registry.example.com/trimflow:gpu-1
"""

# Each kind of call takes the next of its answers; the last one stays. An answer of true waits for a signal.
STAND_IN = """\
import json, pathlib, sys, time
home = pathlib.Path(__file__).parent
words = [word for word in sys.argv[1:] if not word.startswith("-")]
kind = " ".join(words[:2]).split(".")[0] if words[0] == "get" else words[0]
text = sys.stdin.read() if kind == "apply" else ""
with (home / "calls").open("a") as file:
    file.write(json.dumps({"kind": kind, "words": sys.argv[1:], "text": text}) + "\\n")
answers = json.loads((home / "answers.json").read_text())
calls = [json.loads(line)["kind"] for line in (home / "calls").open()].count(kind)
out, complaint = answers[kind][min(calls, len(answers[kind])) - 1]
sys.stdout.write(out)
sys.stdout.flush()
if complaint is True:
    time.sleep(60)
sys.stderr.write(complaint)
sys.exit(1 if complaint else 0)
"""

CREATED = job(("Created", ""))
RUNNING = job(("Created", ""), ("Running", ""))
SUCCEEDED = job(("Succeeded", "all done"))


def log(*lines: str) -> str:
    """A log as `kubectl logs --timestamps` shows it."""
    return "".join(f"2026-01-01T00:00:{number:02d}.5Z {line}\n" for number, line in enumerate(lines))


class Checkout:
    """A copy of the repository with a finished .venv, and a PATH that starts with a folder of stand-ins."""

    def __init__(self, folder: Path):
        self.root, self.bin = folder / "my repo", folder / "bin"
        self.env = os.environ | {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("launchers", "commands", "export", "utils", "learners", "nets", "datasets", "rl_agents"):
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        for name in ("main.py", "scripts/lib.sh", "scripts/run_seven.sh", "scripts/setup_venv.sh"):
            (self.root / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        for directory in (self.bin, self.root / "requirements", self.root / ".venv/bin"):
            directory.mkdir(parents=True)
        (self.root / "requirements/cpu.lock").write_text("# the lock\n")
        digest = hashlib.sha256(b"# the lock\n").hexdigest()
        (self.root / ".venv/trimflow-stamp").write_text(f"cpu {digest}\n")
        self.write_program(self.root / ".venv/bin/python", f'exec "{sys.executable}" "$@"')
        self.write_program(self.bin / "nvidia-smi", "exit 9")
        (self.bin / "stand_in.py").write_text(STAND_IN)
        self.write_program(self.bin / "kubectl", f'exec "{sys.executable}" "{self.bin}/stand_in.py" "$@"')

    @staticmethod
    def write_program(path: Path, commands: str) -> None:
        path.write_text(f"#!/usr/bin/env bash\n{commands}\n")
        path.chmod(0o755)

    def answer(self, jobs: list, pods: list = (), logs: list = (), **more: list) -> None:
        """What kubectl answers to each look at the job and at its pods, and to each call for a log.

        A text in place of an object is a complaint with which kubectl fails.
        """

        def shown(answer, is_list=False):
            if isinstance(answer, str):
                return ["", answer]
            text = json.dumps({"items": answer} if is_list else answer)
            return ["" if answer is None else text, ""]

        answers = {
            "get mpijobs": [shown(answer) for answer in jobs],
            "get pods": [shown(answer, is_list=True) for answer in pods],
            "get events": [shown([], is_list=True)],
            "logs": [answer if isinstance(answer, list) else [answer, ""] for answer in logs],
            "apply": [["mpijob.kubeflow.org/prune created", ""]],
            "delete": [["deleted", ""]],
        }
        (self.bin / "answers.json").write_text(json.dumps(answers | more))
        (self.bin / "calls").unlink(missing_ok=True)

    def calls(self, kind: str) -> list[dict]:
        path = self.bin / "calls"
        made = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call for call in made if call["kind"] == kind]

    def applied(self) -> dict:
        (call,) = self.calls("apply")
        return yaml.safe_load(call["text"])

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            [self.root / "scripts/run_seven.sh", *arguments],
            cwd=cwd or self.root, env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("seven"))


@pytest.fixture
def checkout(copied) -> Checkout:
    (copied.root / "path.conf").write_text(CONF)
    copied.answer([None])
    return copied


def check_refused(checkout: Checkout, result: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2, one line of error with `words` in it, nothing sent to the cluster."""
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("run_seven.sh: error: ")]
    for word in words:
        assert word in error
    assert checkout.calls("apply") == checkout.calls("delete") == []


def test_a_job_is_applied_and_its_log_followed_to_its_end(checkout):
    checkout.answer(
        [None, CREATED, RUNNING, SUCCEEDED],
        [[unschedulable()], [pod("prune-worker-0"), launcher()], [launcher(0)]],
        [log("epoch 1", "epoch 2"), log("epoch 1", "epoch 2", "done")],
    )
    result = checkout.run(NET, "-n=16", "-j=prune", "--namespace", "vision", "--learner", "full-prec", "--seed=3")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "epoch 1\nepoch 2\ndone\n"
    said = result.stderr.splitlines()
    assert said[0].startswith("run_seven: job prune: 16 processes in 2 worker pods, image registry.example.com/")
    assert said[1].startswith("run_seven: waiting: no node takes pod prune-worker-0 (0/3 nodes are available")
    assert said[2:] == ["run_seven: the job prune has succeeded"]
    manifest = checkout.applied()
    assert manifest["metadata"]["name"] == "prune"
    (container,) = manifest["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    assert container["args"][4:] == [NET, "--data_dir_local=/data", "--learner", "full-prec", "--seed=3"]
    kinds = ("get mpijobs", "apply", "get pods", "logs")
    assert all(call["words"][0] == "--namespace=vision" for kind in kinds for call in checkout.calls(kind))
    first, second = (call["words"] for call in checkout.calls("logs"))
    assert first[1:] == ["logs", "--follow", "--timestamps", "--container=launcher", "prune-launcher-a"]
    assert second[1:] == [*first[1:], "--since-time=2026-01-01T00:00:01.5Z"]


def test_a_failed_job_is_exit_code_1_and_is_told_how_to_look_into(checkout):
    failed = job(("Failed", "Job has reached the specified backoff limit"))
    checkout.answer([None, failed], [[launcher(1)]], [log("error: no data")])
    result = checkout.run(NET, "-j=prune")
    assert (result.returncode, result.stdout) == (1, "error: no data\n")
    hints, error = result.stderr.splitlines()[-2:]
    assert "kubectl logs --follow job/prune-launcher" in hints
    assert "kubectl delete mpijob prune" in hints
    assert error == "run_seven.sh: error: the job prune failed: Job has reached the specified backoff limit"


def test_an_image_that_is_not_there_is_one_clear_line(checkout):
    waits = container_waiting("ImagePullBackOff", "manifest unknown", init=True)
    checkout.answer([None, CREATED], [[waits]])
    result = checkout.run(NET, "-j=prune")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(
        "run_seven.sh: error: the image of pod prune-worker-0 cannot be had: registry.example.com/trimflow:gpu-1 "
        "(manifest unknown)"
    )


def test_the_same_command_follows_a_job_that_runs(checkout):
    checkout.answer([None, SUCCEEDED], [[launcher(0)]], [log("done")])
    assert checkout.run(NET, "-n=2", "-j=prune").returncode == 0
    notes = checkout.applied()["metadata"]["annotations"]
    running = RUNNING | {"metadata": {"name": "prune", "annotations": notes}}
    checkout.answer([running, SUCCEEDED], [[launcher(0)]], [log("done")])
    result = checkout.run(NET, "-n=2", "-j=prune")
    assert (result.returncode, result.stdout) == (0, "done\n")
    assert "the job prune is there already" in result.stderr
    assert checkout.calls("apply") == checkout.calls("delete") == []

    checkout.answer([SUCCEEDED | {"metadata": running["metadata"]}, SUCCEEDED], [[launcher(0)]], [log("resumed")])
    assert checkout.run(NET, "-n=2", "-j=prune").stdout == "resumed\n"
    assert len(checkout.calls("apply")) == len(checkout.calls("delete")) == 1, "it has ended: it goes on"

    checkout.answer([running])
    message = "the name prune is taken: a job of another command or setting runs under it"
    result = checkout.run(NET, "-n=2", "-j=prune", "--seed=2")
    check_refused(
        checkout, result, message, f"({NET} --data_dir_local=/data)", "kubectl delete mpijob prune", "-j=NAME"
    )
    check_refused(checkout, checkout.run(NET, "-n=4", "-j=prune"), message)
    checkout.answer([RUNNING])
    check_refused(checkout, checkout.run(NET, "-n=2", "-j=prune"), message, "(not made by run_seven.sh)")


@pytest.mark.parametrize(
    ("old", "state"),
    [
        (SUCCEEDED, "succeeded"),
        (job(("Failed", "")), "failed"),
        (job(("Running", ""), deletionTimestamp="2026-01-01T00:00:00Z"), "been deleted"),
    ],
)
def test_a_job_that_is_over_is_deleted_and_applied_anew(checkout, old, state):
    checkout.answer([old, SUCCEEDED], [[launcher(0)]], [log("resumed")])
    result = checkout.run(NET, "-j=prune")
    assert (result.returncode, result.stdout) == (0, "resumed\n")
    assert f"deleting the job prune, which has {state}, to go on" in result.stderr
    (deleted,) = checkout.calls("delete")
    assert deleted["words"][:3] == ["delete", "mpijobs.v2beta1.kubeflow.org", "prune"]
    assert "--cascade=foreground" in deleted["words"]
    assert checkout.applied()["metadata"]["name"] == "prune"


def test_dry_run_prints_the_manifest_and_nothing_else(checkout):
    result = checkout.run(NET, "-n=8", "-j=prune", "--dry_run")
    assert (result.returncode, result.stderr) == (0, "")
    assert yaml.safe_load(result.stdout)["spec"]["slotsPerWorker"] == 8
    assert not (checkout.bin / "calls").exists()
    checkout.answer([None, SUCCEEDED], [[launcher(0)]], [""])
    checkout.run(NET, "-n=8", "-j=prune")
    assert checkout.calls("apply")[0]["text"] == result.stdout, "what would be applied"


def test_dry_run_of_main_is_behind_two_hyphens(checkout):
    words = ["--learner=scheduled", "--compress=recipes/resnet20.agp.yaml", "--dry_run"]
    shutil.copytree(ROOT / "recipes", checkout.root / "recipes", dirs_exist_ok=True)
    checkout.answer([None, SUCCEEDED], [[launcher(0)]], [""])
    assert checkout.run(NET, "-j=prune", "--", *words).returncode == 0
    (container,) = checkout.applied()["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    assert container["args"][-3:] == words


def test_flags_reach_the_manifest_as_they_were_typed(checkout):
    directory = "runs/a b$(touch hacked)`id`'x'\"y\"*\\ ünï"
    result = checkout.run(NET, "--dry_run", "--run_dir", directory, "--log_dir=")
    assert result.returncode == 0, result.stderr
    launcher_spec = yaml.safe_load(result.stdout)["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]
    assert launcher_spec["containers"][0]["args"][-3:] == ["--run_dir", directory.replace("$", "$$"), "--log_dir="]
    assert not (checkout.root / "hacked").exists()


@pytest.mark.parametrize(
    ("complaint", "message"),
    [
        ("Unable to connect to the server: dial tcp: lookup nowhere: no such host", "the cluster cannot be reached"),
        ('error: the server doesn\'t have a resource type "mpijobs"', "the MPI operator v2beta1 is needed"),
        ("Error from server (Forbidden): mpijobs is forbidden", "the cluster does not allow this"),
    ],
)
def test_a_cluster_that_cannot_take_the_job_is_an_error(checkout, complaint, message):
    checkout.answer([f"E1121 noise of its own\n{complaint}\n"])
    check_refused(checkout, checkout.run(NET), message, f"kubectl says: {complaint}")


def test_a_refused_manifest_is_an_error(checkout):
    checkout.answer([None], apply=[["", 'Error from server (NotFound): namespaces "x" not found\n']])
    result = checkout.run(NET, "--namespace=x")
    assert result.returncode == 2
    assert "run_seven.sh: error: --namespace must be one that the cluster has. kubectl says:" in result.stderr


def test_without_kubectl_it_is_said_what_to_install(checkout):
    programs = checkout.bin.parent / "few programs"
    programs.mkdir(exist_ok=True)
    for name in ("bash", "dirname", "realpath", "sha256sum", "grep", "env"):
        if not (programs / name).exists():
            (programs / name).symlink_to(shutil.which(name))
    checkout.env = checkout.env | {"PATH": str(programs)}
    try:
        check_refused(checkout, checkout.run(NET), "the program kubectl is needed", "install it as on")
        assert checkout.run(NET, "--dry_run").returncode == 0
    finally:
        checkout.env["PATH"] = f"{checkout.bin}:{os.environ['PATH']}"


def test_mistakes_are_refused_before_the_cluster_is_asked(checkout):
    check_refused(checkout, checkout.run(NET, "-n=0"), "-n must be a whole number from 1 to 9999")
    check_refused(checkout, checkout.run(NET, "-j=My_Job"), "-j must be a name of at most 54 letters")
    check_refused(
        checkout, checkout.run(NET, "--ws_prune_ratio=2"), "--ws_prune_ratio must be at least 0 and at most 1"
    )
    check_refused(checkout, checkout.run("nets/none_run.py"), "no such net script", NET)
    check_refused(checkout, checkout.run(), "the first argument must be a net script", NET)
    (checkout.root / "path.conf").unlink()
    check_refused(checkout, checkout.run(NET), "write the line `data_dir_seven_cifar10 = pvc:CLAIM/folder`")
    assert not (checkout.bin / "calls").exists()


def test_net_script_is_found_from_where_the_user_stands(checkout, tmp_path):
    for cwd, word in [(checkout.root / "nets", "resnet_at_cifar10_run.py"), (tmp_path, NET)]:
        result = checkout.run(word, "--dry_run", cwd=cwd)
        assert f"- {NET}\n" in result.stdout


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_shown(checkout, option):
    result = checkout.run(NET, option)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: scripts/run_seven.sh NET_SCRIPT [-n=N]")
    check_refused(checkout, checkout.run(NET, "--", option), "Unknown command line flag")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_stops_the_following_but_not_the_job(checkout, number, code):
    checkout.answer([None, RUNNING], [[launcher()]], [[log("epoch 1"), True]])
    with subprocess.Popen(
        [checkout.root / "scripts/run_seven.sh", NET, "-j=prune"],
        cwd=checkout.root, env=checkout.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "epoch 1\n", process.communicate()[1]
        began = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert time.monotonic() - began < 20, "kubectl must not outlive it"
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert "no longer following; the job goes on" in last
    assert "kubectl logs --follow job/prune-launcher" in last
    assert "kubectl delete mpijob prune" in last
    assert checkout.calls("delete") == []
