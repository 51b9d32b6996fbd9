"""setup_venv.sh in a copy of the repository's scripts, installing a one-file package of our own, without a network."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PIP = Path(importlib.util.find_spec("pip").origin).parent

# Makes a virtual environment in a moment: with a link to this environment's pip in place of an installed one.
FAST_PYTHON = f"""\
if [[ "$*" != "-m venv --clear .venv" ]]; then exec "{sys.executable}" "$@"; fi
"{sys.executable}" -m venv --clear --without-pip .venv
ln -s "{PIP}" .venv/lib/python3.11/site-packages/pip
"""


class Checkout:
    """A repository with the scripts and a lock of one package, and a PATH that starts with a folder of stand-ins."""

    def __init__(self, folder: Path):
        self.root = folder / "my repo"
        self.venv = self.root / ".venv"
        self.bin = folder / "bin"
        self.wheels = folder / "wheels"
        self.env = os.environ | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        for directory in (self.root / "scripts", self.root / "requirements", self.bin, self.wheels):
            directory.mkdir(parents=True)
        for name in ("lib.sh", "setup_venv.sh"):
            shutil.copy(SCRIPTS / name, self.root / "scripts")
        self.stand_in("python3.11", FAST_PYTHON)

    def lock(self, version: str, variant: str = "cpu") -> None:
        """Makes the package of that version and locks it."""
        wheel = self.wheels / f"tiny-{version}-py3-none-any.whl"
        info = f"tiny-{version}.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tiny.py", f"version = '{version}'\n")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lock = self.root / "requirements" / f"{variant}.lock"
        lock.write_text(f"tiny=={version} --hash=sha256:{digest}\n")

    def stand_in(self, name: str, commands: str) -> None:
        program = self.bin / name
        program.write_text(f"#!/usr/bin/env bash\n{commands}\n")
        program.chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [self.root / "scripts/setup_venv.sh", *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def installed_version(self) -> str:
        command = [self.venv / "bin/python", "-c", "import tiny; print(tiny.version)"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    checkout = Checkout(tmp_path)
    checkout.lock("1.0")
    return checkout


def test_two_starts_at_once_install_once_and_a_third_has_nothing_to_do(checkout):
    (checkout.bin / "python3.11").unlink()  # once with the real thing
    processes = [checkout.start("cpu"), checkout.start("cpu")]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum("setup: making .venv with Python 3.11" in output for output in outputs) == 1
    assert sum("setup: waiting for another start" in output for output in outputs) == 1
    assert checkout.installed_version() == "1.0"
    checkout.stand_in("python3.11", "echo must not be called; exit 1")
    assert checkout.run("cpu") == (0, "")


def test_a_failed_installation_is_completed_by_the_next_start(checkout):
    wheel = checkout.wheels / "tiny-1.0-py3-none-any.whl"
    wheel.rename(wheel.with_suffix(".hidden"))
    code, output = checkout.run("cpu")
    assert code == 2
    assert "ERROR: No matching distribution found for tiny==1.0" in output
    assert "pip could not install requirements/cpu.lock" in output.splitlines()[-1]
    assert not (checkout.venv / "trimflow-stamp").exists()

    (checkout.venv / "kept").touch()
    wheel.with_suffix(".hidden").rename(wheel)
    code, output = checkout.run("cpu")
    assert code == 0
    assert "setup: completing .venv" in output
    assert checkout.installed_version() == "1.0"
    assert (checkout.venv / "kept").exists()


def test_a_new_lock_updates_and_another_variant_starts_anew(checkout):
    assert checkout.run("cpu")[0] == 0
    (checkout.venv / "kept").touch()
    checkout.lock("2.0")
    assert checkout.run("cpu")[0] == 0
    assert checkout.installed_version() == "2.0"
    assert (checkout.venv / "kept").exists()
    checkout.lock("3.0", variant="gpu")
    checkout.stand_in("nvidia-smi", "echo 0, 10, 16000, 0")
    assert checkout.run()[0] == 0, "the variant is found by nvidia-smi"
    assert checkout.installed_version() == "3.0"
    assert not (checkout.venv / "kept").exists()


def test_a_package_that_differs_from_its_hash_is_refused(checkout):
    with zipfile.ZipFile(checkout.wheels / "tiny-1.0-py3-none-any.whl", "a") as archive:
        archive.writestr("added_later.py", "")
    code, output = checkout.run("cpu")
    assert code == 2
    assert "HASHES" in output or "hash" in output
    assert not (checkout.venv / "trimflow-stamp").exists()


@pytest.mark.parametrize(
    ("stand_ins", "message"),
    [
        (dict.fromkeys(("python3.11", "python3", "python"), "exit 1"), "Python 3.11 was not found on PATH"),
        ({"python3.11": '[[ "$*" != *ensurepip* ]]'}, "sudo apt-get install python3.11-venv"),
        ({"df": "printf 'Avail\\n120M\\n'"}, "needs 2900 MiB. Received: 120 MiB free"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_made(checkout, stand_ins, message):
    for name, commands in stand_ins.items():
        checkout.stand_in(name, commands)
    code, output = checkout.run("cpu")
    assert code == 2
    assert message in output.splitlines()[-1]
    assert not checkout.venv.exists()


def test_a_users_own_venv_of_another_python_is_left_alone(checkout):
    (checkout.venv / "bin").mkdir(parents=True)
    own = checkout.venv / "bin/python"
    own.write_text("#!/usr/bin/env bash\nexit 1\n")
    own.chmod(0o755)
    code, output = checkout.run("cpu")
    assert code == 2
    assert "was not made by this script" in output
    assert own.exists()


@pytest.mark.parametrize("arguments", [("tpu",), ("cpu", "gpu"), ("",)])
def test_wrong_arguments_are_refused(checkout, arguments):
    code, output = checkout.run(*arguments)
    assert code == 2
    assert "cpu or gpu" in output
