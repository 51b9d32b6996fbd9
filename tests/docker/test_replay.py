"""Replays docker/Dockerfile's target `cpu` and runs in the result; minutes, root and the network, so only where asked:

TRIMFLOW_REPLAY_ROOTFS=/some/rootfs .venv/bin/python -m pytest tests/docker/test_replay.py

See tests/docker/replay.py for what such a rootfs is. TRIMFLOW_REPLAY_WORK, where it is set, is a folder that keeps the
result, and is used again where it has one.
"""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.docker.replay import Replay, enter

ROOTFS = os.environ.get("TRIMFLOW_REPLAY_ROOTFS")
pytestmark = [
    pytest.mark.skipif(not ROOTFS, reason="TRIMFLOW_REPLAY_ROOTFS names no directory to replay the Dockerfile in"),
    pytest.mark.timeout(3600),
]

ANY_USER = 12345
TINY = ["--data_disk", "embedded", "--nb_smpls_train", "256", "--nb_smpls_val", "100", "--nb_smpls_eval", "100"]
TINY += ["--export_formats", "none", "--batch_size", "32", "--nb_epochs_rat", "0.01"]


@pytest.fixture(scope="module")
def replay(tmp_path_factory) -> Replay:
    work = Path(os.environ.get("TRIMFLOW_REPLAY_WORK") or tmp_path_factory.mktemp("replay"))
    replay = Replay(Path(ROOTFS), work)
    replay.make("cpu")
    return replay


@pytest.fixture
def results(tmp_path) -> Path:
    """A folder of the caller's, for /opt/trimflow/runs."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "runs"
    folder.mkdir()
    os.chown(folder, ANY_USER, ANY_USER)
    return folder


def run(replay: Replay, results: Path, *words: str, user: int = ANY_USER, **options) -> subprocess.CompletedProcess:
    """A command in the image, as run_docker.sh starts it."""
    environment = replay.environments["cpu"]
    mounts = {results: "/opt/trimflow/runs"}
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, **options}
    root = replay.work / "cpu"
    return enter(root, list(words), environment, "/opt/trimflow", f"{user}:{user}", mounts, **options)


def files_of(folder: Path) -> set[str]:
    """All files, without those of the mounts."""
    return {str(path) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("options", [[], ["-n=2"]], ids=["one process", "two processes"])
def test_any_user_can_run_and_nothing_is_installed(replay, results, options):
    image = replay.work / "cpu/opt/trimflow"
    before = files_of(image)
    script = ["scripts/run_local.sh", "nets/lenet_at_cifar10_run.py", *options]
    done = run(replay, results, *script, "--learner", "full-prec", *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "setup:" not in done.stderr
    assert "horovod: " not in done.stderr
    assert ("[0 localhost]" in done.stdout) == bool(options), "lines of several processes are marked by rank and host"
    assert files_of(image) == before
    kept = results / "lenet_at_digits32/full-prec"
    assert (kept / "report.json").exists(), sorted(map(str, results.rglob("*")))
    assert {path.stat().st_uid for path in results.rglob("*")} == {ANY_USER}


def test_it_ends_by_sigterm_as_outside(replay, results):
    script = ["scripts/run_local.sh", "nets/lenet_at_cifar10_run.py", "--learner", "full-prec"]
    # Once there is a run, it is not the start any more that is interrupted.
    commands = '"$@" & until ls runs/*/*/config.json; do sleep 1; done; sleep 2; kill -TERM $!; wait $!'
    done = run(replay, results, "sh", "-c", commands, "sh", *script, *TINY[:-1], "50", timeout=120)
    assert done.returncode == 143
    assert "interrupted: the same command goes on" in done.stderr


def test_an_image_has_no_compiler_and_no_host_keys(replay):
    root = replay.work / "cpu"
    assert not any((root / "usr/bin" / name).exists() for name in ("g++", "cmake", "make"))
    assert not list((root / "etc/ssh").glob("ssh_host_*"))
    assert not list((root / "var/lib/apt/lists").glob("*"))


def test_pods_reach_one_another_by_ssh_without_root(replay, results, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    # As the operator mounts them: of root, readable for all.
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "521", "-N", "", "-f", keys / "id_rsa"], check=True)
    (keys / "authorized_keys").write_text((keys / "id_rsa.pub").read_text())
    for path in keys.iterdir():
        path.chmod(0o644)
    root, environment = replay.work / "cpu", replay.environments["cpu"]
    commands = """
        /usr/sbin/sshd -De -f /home/trimflow/.sshd_config 2>/tmp/sshd.log & daemon=$!
        sleep 1
        ssh localhost 'id --user; cd /opt/trimflow; .venv/bin/python -c "import horovod; print(horovod.__version__)"'
        code=$?
        kill $daemon
        cat /tmp/sshd.log >&2
        exit $code
    """
    mounts = {keys: "/home/trimflow/.ssh"}
    began = time.monotonic()
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    done = enter(root, ["sh", "-c", commands], environment, "/opt/trimflow", "1000:1000", mounts, **options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1000", "0.28.1"]
    assert time.monotonic() - began < 60
