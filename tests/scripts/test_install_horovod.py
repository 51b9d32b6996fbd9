"""install_horovod.sh in a copy of the scripts, with a tiny Horovod that pip really builds; and the one in .venv."""

import functools
import hashlib
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PIP = Path(importlib.util.find_spec("pip").origin).parent
BUILD_PACKAGES = [PIP, *PIP.parent.glob("setuptools*"), PIP.parent / "_distutils_hack"]
XLA_LINE = 'list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/xla_mpi_ops.cc")\n'
OTHER_LINE = 'list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/mpi_ops.cc")\n'
OWN_INTERFACE = "  device_attr.iface = gloo_iface_;\n"
GLOO_CONTEXT = f"""\
void GlooContext::Initialize(const std::string& gloo_iface) {{
{OWN_INTERFACE}}}
void GlooContext::InitializeForProcessSet(const GlooContext& global_context) {{
{OWN_INTERFACE}}}
"""
RESERVED = "  global_ranks_.reserve(size_);\n"

# Runs $BUILD where the real one compiles, and keeps what it was told and given.
SETUP = """\
import os, subprocess, sys
from setuptools import setup
if "bdist_wheel" in sys.argv:
    subprocess.run(["bash", "-euc", os.environ["BUILD"]], check=True)
    with open("horovod/built_with.txt", "w") as file:
        file.write(open("horovod/tensorflow/CMakeLists.txt").read())
        file.write(open("horovod/common/gloo/gloo_context.cc").read())
        file.write(open("horovod/common/gloo/gloo_controller.cc").read())
        file.writelines(f"{name}={value}\\n" for name, value in os.environ.items())
setup(name="horovod", version="0.28.1", packages=["horovod"], package_data={"horovod": ["*.txt"]},
      entry_points={"console_scripts": ["horovodrun = horovod:run"]})
"""
# Its horovodrun runs $CHECK with the arguments it got.
PACKAGE = """\
import os, subprocess, sys
def run():
    sys.exit(subprocess.call(["bash", "-euc", os.environ["CHECK"], *sys.argv]))
"""


class Checkout:
    """A repository with the scripts, a .venv as setup_venv.sh makes it, and a folder of stand-ins on PATH."""

    def __init__(self, folder: Path, name: str = "my repo"):
        self.root = folder / name
        self.venv = self.root / ".venv"
        self.stamp = self.venv / "trimflow-horovod"
        self.bin = folder / "bin"
        self.cache = folder / "my cache/horovod"
        self.sources = folder / "sources"
        self.builds = folder / "builds"
        self.checks = folder / "checks"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")} | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.sources),
            "TRIMFLOW_CACHE": str(self.cache.parent),
        }
        self.set_build("")
        self.set_check("")
        for directory in (self.root / "scripts", self.root / "requirements", self.bin, self.sources):
            directory.mkdir(parents=True, exist_ok=True)
        for script in ("lib.sh", "install_horovod.sh"):
            shutil.copy(REPOSITORY / "scripts" / script, self.root / "scripts")
        self.stand_in("cmake", "echo cmake version 3.25.1")
        for tool in ("make", "gcc", "g++"):
            self.stand_in(tool, "exit 0")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True)
        for package in BUILD_PACKAGES:
            (self.venv / "lib/python3.11/site-packages" / package.name).symlink_to(package)
        self.lock_packages("tensorflow-cpu==2.21.0\n")
        self.lock_source(OTHER_LINE + XLA_LINE)

    def set_build(self, commands: str) -> None:
        self.env["BUILD"] = f"echo built >>'{self.builds}'\n{commands}"

    def set_check(self, commands: str) -> None:
        self.env["CHECK"] = f"echo \"$@\" >>'{self.checks}'\n{commands}"

    def lock_packages(self, lines: str, variant: str = "cpu") -> None:
        """What setup_venv.sh leaves after an installation from such a lock."""
        (self.root / f"requirements/{variant}.lock").write_text(lines)
        digest = hashlib.sha256(lines.encode()).hexdigest()
        (self.venv / "trimflow-stamp").write_text(f"{variant} {digest}\n")
        (self.venv / "trimflow-variant").write_text(f"{variant}\n")

    def lock_source(
        self,
        cmake_lists: str,
        setup: str = SETUP,
        gloo_context: str = GLOO_CONTEXT,
        gloo_controller: str = RESERVED,
    ) -> None:
        """Makes Horovod's archive and locks it."""
        files = {
            "setup.py": setup,
            "horovod/__init__.py": PACKAGE,
            "horovod/tensorflow/CMakeLists.txt": cmake_lists,
            "horovod/common/gloo/gloo_context.cc": gloo_context,
            "horovod/common/gloo/gloo_controller.cc": gloo_controller,
            "PKG-INFO": "Metadata-Version: 2.1\nName: horovod\nVersion: 0.28.1\n",
        }
        self.archive = self.sources / "horovod-0.28.1.tar.gz"
        with tarfile.open(self.archive, "w:gz") as archive:
            for name, text in files.items():
                member = tarfile.TarInfo(f"horovod-0.28.1/{name}")
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        digest = hashlib.sha256(self.archive.read_bytes()).hexdigest()
        (self.root / "requirements/horovod.lock").write_text(f"# why\nhorovod==0.28.1 --hash=sha256:{digest}\n")

    def stand_in(self, name: str, commands: str) -> None:
        program = self.bin / name
        program.write_text(f"#!/usr/bin/env bash\n{commands}\n")
        program.chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [self.root / "scripts/install_horovod.sh", *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell that began these tests in the background has them ignore it.
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def start_endless_build(self) -> tuple[subprocess.Popen, int]:
        """The script and the process id of its build, which waits."""
        started = self.root / "started"
        self.set_build(f"echo $$ >'{started}.new'; mv '{started}.new' '{started}'; exec sleep 300")
        process = self.start()
        while not started.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        self.set_build("")
        return process, int(started.read_text())

    def num_builds(self) -> int:
        return len(self.builds.read_text().splitlines()) if self.builds.exists() else 0

    def cached(self, pattern: str = "*/*.whl") -> list[Path]:
        return list(self.cache.glob(pattern))

    def installed_with(self) -> list[str]:
        return (self.venv / "lib/python3.11/site-packages/horovod/built_with.txt").read_text().splitlines()


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


def assert_nothing_installed(checkout: Checkout) -> None:
    assert not checkout.stamp.exists()
    assert not checkout.cached()
    assert not checkout.cached("*.building.*")


def test_builds_without_the_one_source_checks_by_two_processes_and_then_has_nothing_to_do(checkout):
    checkout.env |= {"HOROVOD_WITH_MPI": "1", "CFLAGS": "-O0", "HOROVOD_RANK": "3"}
    checkout.set_check('test -z "${HOROVOD_RANK:-}"')
    code, output = checkout.run()
    assert code == 0, output
    assert "horovod: building Horovod: about 2 minutes" in output
    installed_with = checkout.installed_with()
    assert OTHER_LINE.strip() in installed_with
    assert XLA_LINE.strip() not in installed_with
    # Only the second of Gloo's contexts is changed.
    interfaces = [line for line in installed_with if "device_attr.iface" in line]
    assert interfaces == [OWN_INTERFACE.rstrip(), "  device_attr.iface = global_context.gloo_iface_;"]
    assert "  global_ranks_.resize(size_);" in installed_with
    assert RESERVED.rstrip() not in installed_with
    assert {
        "HOROVOD_WITH_TENSORFLOW=1",
        "HOROVOD_WITH_GLOO=1",
        "HOROVOD_WITHOUT_MPI=1",
        "HOROVOD_WITHOUT_PYTORCH=1",
        "HOROVOD_WITHOUT_MXNET=1",
    } <= set(installed_with)
    # What the user's environment says of another Horovod or compiler does not reach the build.
    assert not [line for line in installed_with if line.startswith(("HOROVOD_WITH_MPI", "CFLAGS", "HOROVOD_GPU"))]
    (check,) = checkout.checks.read_text().splitlines()
    assert check.startswith("-np 2 --gloo ")
    assert check.endswith("scripts/check_horovod.py gloo 2 180")
    assert [path.name for path in checkout.cache.iterdir() if path.is_dir()] == [checkout.cached()[0].parent.name]

    checkout.stand_in("cmake", "exit 1")
    checkout.archive.unlink()
    began = time.monotonic()
    assert checkout.run() == (0, "")
    assert checkout.run("cpu") == (0, "")
    assert time.monotonic() - began < 2
    assert checkout.num_builds() == 1


def test_installs_from_the_cache_without_tools_or_network_into_a_venv_that_was_remade(checkout, tmp_path):
    assert checkout.run()[0] == 0
    other = Checkout(tmp_path, "other repo")
    for tool in ("cmake", "make", "gcc", "g++"):
        other.stand_in(tool, "exit 127")
    other.archive.unlink()
    shutil.copy(checkout.root / "requirements/horovod.lock", other.root / "requirements")
    code, output = other.run("cpu")
    assert code == 0, output
    assert f"installing from {other.cached()[0].parent}" in output
    assert (other.venv / "bin/horovodrun").exists()
    assert checkout.num_builds() == 1


def test_another_lock_checks_anew_and_another_tensorflow_builds_anew(checkout):
    assert checkout.run()[0] == 0
    checkout.lock_packages("tensorflow-cpu==2.21.0\npsutil==7.2.2\n")
    assert checkout.run()[0] == 0
    assert checkout.num_builds() == 1
    assert len(checkout.checks.read_text().splitlines()) == 2
    checkout.lock_packages("tensorflow-cpu==2.22.0\n")
    assert checkout.run()[0] == 0
    assert checkout.num_builds() == 2
    keys = sorted(path.parent.name for path in checkout.cached())
    assert "-tensorflow2.21.0-cpu-cp311-" in keys[0]
    assert "-tensorflow2.22.0-cpu-cp311-" in keys[1]


def test_a_changed_recipe_builds_anew(checkout):
    assert checkout.run()[0] == 0
    script = checkout.root / "scripts/install_horovod.sh"
    text = script.read_text()
    script.write_text(text.replace("# What TensorFlow itself demands", "# What only a comment says"))
    assert checkout.run() == (0, "")
    script.write_text(text.replace("-include cstdint", "-include cstddef"))
    assert script.read_text() != text
    assert checkout.run()[0] == 0
    assert checkout.num_builds() == 2


def test_a_damaged_wheel_in_the_cache_is_built_anew(checkout):
    assert checkout.run()[0] == 0
    checkout.stamp.unlink()
    with open(checkout.cached()[0], "ab") as wheel:
        wheel.write(b"x")
    code, output = checkout.run()
    assert code == 0, output
    assert "is damaged: building it anew" in output
    assert checkout.num_builds() == 2
    checkout.stamp.unlink()
    assert checkout.run()[0] == 0
    assert checkout.num_builds() == 2


@pytest.mark.parametrize("is_cured", [True, False])
def test_a_wheel_of_the_cache_that_fails_its_check_is_built_anew_once(checkout, is_cured):
    assert checkout.run()[0] == 0
    checkout.stamp.unlink()
    checkout.set_check(
        f"test $(wc -l <'{checkout.builds}') == 2" if is_cured else "echo 'mpi_lib: undefined symbol: x'; exit 1"
    )
    code, output = checkout.run()
    assert "the wheel from the cache does not work here: building it anew" in output
    assert checkout.num_builds() == 2
    assert checkout.stamp.exists() == is_cured
    if is_cured:
        assert code == 0
    else:
        assert code == 2
        assert "mpi_lib: undefined symbol: x" in output.splitlines()[-2]
        assert "could not sum tensors" in output.splitlines()[-1]
        assert ".venv/horovod-build.log" in output.splitlines()[-1]


def test_a_check_that_hangs_is_ended(checkout):
    script = checkout.root / "scripts/install_horovod.sh"
    script.write_text(script.read_text().replace("check_seconds=180", "check_seconds=-9"))
    checkout.set_check("exec sleep 300")
    began = time.monotonic()
    code, output = checkout.run()
    assert code == 2
    assert "could not sum tensors" in output.splitlines()[-1]
    assert time.monotonic() - began < 60
    assert not checkout.stamp.exists()


@pytest.mark.parametrize(
    ("stand_ins", "message"),
    [
        ({"cmake": "exit 127"}, "building Horovod needs cmake, which was not found"),
        ({"cmake": "echo cmake version 3.12.4"}, "needs cmake 3.13 or newer. Received: 3.12.4"),
        ({"cmake": "echo cmake version 2.99.1"}, "needs cmake 3.13 or newer. Received: 2.99.1"),
        ({"g++": "exit 127"}, "building Horovod needs g++, which was not found"),
        ({"make": "exit 127"}, "building Horovod needs make, which was not found"),
        ({"df": "printf 'Avail\\n120M\\n'"}, "my cache/horovod is too full: Horovod needs 400 MiB there."),
        ({"df": "printf 'Avail\\n20M\\n'"}, ".venv is too full: Horovod needs 60 MiB there. Received: 20 MiB free"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_made(checkout, stand_ins, message):
    for name, commands in stand_ins.items():
        checkout.stand_in(name, commands)
    code, output = checkout.run()
    assert code == 2
    assert message in output.splitlines()[-1]
    assert checkout.num_builds() == 0
    assert_nothing_installed(checkout)


def test_a_newer_major_version_of_cmake_is_taken(checkout):
    checkout.stand_in("cmake", "echo cmake version 4.1.0")
    assert checkout.run()[0] == 0
    assert "CMAKE_POLICY_VERSION_MINIMUM=3.5" in checkout.installed_with()


@pytest.mark.parametrize(
    ("commands", "lines"),
    [
        (
            "echo 'x.cc:7:2: fatal error: y.h: No such file or directory'; echo 'make[2]: *** [x.cc.o] Error 1'",
            ["x.cc:7:2: fatal error: y.h: No such file or directory", "could not be compiled; the last errors"],
        ),
        ("echo '/tmp/x.s: No space left on device'", ["my cache/horovod became full: Horovod needs 400 MiB there"]),
        ("echo 'g++: fatal error: Killed signal terminated program cc1plus'", ["the compiler ran out of memory"]),
    ],
)
def test_a_build_that_fails_says_why(checkout, commands, lines):
    checkout.set_build(f"{commands}; exit 1")
    code, output = checkout.run()
    assert code == 2
    said = [line for line in output.splitlines() if "CalledProcessError" not in line]
    for expected, line in zip(reversed(lines), reversed(said), strict=False):
        assert expected in line
    assert commands.split("'")[1] in (checkout.venv / "horovod-build.log").read_text()
    assert_nothing_installed(checkout)


def test_a_network_that_is_down_is_named(checkout):
    checkout.archive.unlink()
    code, output = checkout.run()
    assert code == 2
    assert "No matching distribution found for horovod==0.28.1" in output
    assert "is the network down" in output.splitlines()[-1]
    assert_nothing_installed(checkout)


def test_a_source_that_differs_from_its_hash_is_refused(checkout):
    with open(checkout.archive, "ab") as archive:
        archive.write(b"x")
    code, output = checkout.run()
    assert code == 2
    assert "Horovod's source is not the one that requirements/horovod.lock names" in output.splitlines()[-1]
    assert checkout.num_builds() == 0
    assert_nothing_installed(checkout)


def test_build_tools_that_cannot_read_the_source_are_told_from_a_network_that_is_down(checkout):
    checkout.lock_source(XLA_LINE, setup="raise SystemExit('setuptools is too new')")
    code, output = checkout.run()
    assert code == 2
    assert "setuptools in .venv cannot read Horovod's source" in output.splitlines()[-1]
    assert "setuptools is too new" in (checkout.venv / "horovod-build.log").read_text()
    assert_nothing_installed(checkout)


@pytest.mark.parametrize("times", [0, 2])
def test_a_source_without_the_one_line_to_leave_out_is_refused(checkout, times):
    checkout.lock_source(OTHER_LINE + times * XLA_LINE)
    code, output = checkout.run()
    assert code == 2
    assert "must name horovod/tensorflow/xla_mpi_ops.cc once" in output.splitlines()[-1]
    assert f"Received: {times} times" in output.splitlines()[-1]
    assert checkout.num_builds() == 0
    assert_nothing_installed(checkout)


@pytest.mark.parametrize(("interfaces", "times"), [("", 0), (2 * OWN_INTERFACE, 2)])
def test_a_source_without_the_one_interface_to_change_is_refused(checkout, interfaces, times):
    checkout.lock_source(XLA_LINE, gloo_context=GLOO_CONTEXT.replace(OWN_INTERFACE, interfaces))
    code, output = checkout.run()
    assert code == 2
    assert "gloo_context.cc must set device_attr.iface once" in output.splitlines()[-1]
    assert f"Received: {times} times" in output.splitlines()[-1]
    assert checkout.num_builds() == 0
    assert_nothing_installed(checkout)


@pytest.mark.parametrize("times", [0, 2])
def test_a_source_without_the_one_list_to_give_its_length_is_refused(checkout, times):
    checkout.lock_source(XLA_LINE, gloo_controller="// ranks\n" + times * RESERVED)
    code, output = checkout.run()
    assert code == 2
    assert "gloo_controller.cc must have global_ranks_.reserve(size_); once" in output.splitlines()[-1]
    assert f"Received: {times} times" in output.splitlines()[-1]
    assert checkout.num_builds() == 0
    assert_nothing_installed(checkout)


def test_a_killed_build_leaves_nothing_that_the_next_start_takes_for_a_wheel(checkout):
    process, build = checkout.start_endless_build()
    process.kill()
    process.communicate(timeout=30)
    # Another build may start while the orphan still runs.
    assert len(checkout.cached("*.building.*")) == 1
    assert not checkout.cached()
    code, output = checkout.run()
    os.killpg(os.getpgid(build), signal.SIGKILL)
    assert code == 0, output
    assert len(checkout.cached()) == 1
    assert not checkout.cached("*.building.*")


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_is_ended_and_leaves_nothing(checkout, number, expected):
    process, build = checkout.start_endless_build()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == expected
    with pytest.raises(ProcessLookupError):
        os.kill(build, 0)
    assert_nothing_installed(checkout)


def test_two_starts_at_once_build_once(checkout, tmp_path):
    other = Checkout(tmp_path, "other repo")
    shutil.copy(other.root / "requirements/horovod.lock", checkout.root / "requirements")
    for one in (checkout, other):
        one.set_build("sleep 2")
    processes = [checkout.start(), checkout.start(), other.start()]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert "waiting for another start that is installing into .venv" in outputs[0] + outputs[1]
    assert sum("waiting for another start that is building the same" in output for output in outputs) == 1
    assert checkout.num_builds() == 1
    assert checkout.stamp.exists()
    assert other.stamp.exists()


def test_a_long_build_says_how_far_it_is(checkout):
    script = checkout.root / "scripts/install_horovod.sh"
    script.write_text(script.read_text().replace("progress_seconds=20", "progress_seconds=3"))
    checkout.set_build("echo '[ 42%] Building CXX object x.cc.o'; sleep 6")
    code, output = checkout.run()
    assert code == 0
    assert "horovod: building: 3 s, 42%" in output.splitlines()
    assert "[ 42%] Building CXX object" in (checkout.venv / "horovod-build.log").read_text()


class GpuCheckout(Checkout):
    """The gpu variant with a CUDA compiler, NCCL and two GPUs."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.lock_packages("tensorflow==2.21.0\n", "gpu")
        cuda = folder / "cuda"
        self.nccl = folder / "nccl"
        for path, text in {
            cuda / "include/cuda_runtime.h": "",
            cuda / "bin/nvcc": "#!/usr/bin/env bash\necho 'Cuda compilation tools, release 12.9, V12.9.86'\n",
            self.nccl / "include/nccl.h": "#define NCCL_MAJOR 2\n#define NCCL_MINOR 27\n#define NCCL_PATCH 3\n",
            self.nccl / "lib/libnccl.so.2": "",
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (cuda / "bin/nvcc").chmod(0o755)
        self.env |= {"HOROVOD_CUDA_HOME": str(cuda), "HOROVOD_NCCL_HOME": str(self.nccl)}
        self.stand_in("nvidia-smi", "echo 0, 10, 16000, 0; echo 1, 10, 16000, 0")


def test_nccl_is_built_in_where_it_and_cuda_are_found_and_checked_on_the_gpus(tmp_path):
    checkout = GpuCheckout(tmp_path)
    link = '"$HOROVOD_NCCL_HOME/lib/libnccl.so"'
    checkout.set_build(
        f'test {link} -ef "{checkout.nccl}/lib/libnccl.so.2"; test -f "$HOROVOD_NCCL_HOME/include/nccl.h"'
    )
    code, output = checkout.run()
    assert code == 0, output
    assert "HOROVOD_GPU_OPERATIONS=NCCL" in checkout.installed_with()
    assert XLA_LINE.strip().replace("xla_mpi_ops", "gpu_stream") in checkout.installed_with()
    assert f"HOROVOD_CUDA_HOME={tmp_path}/cuda" in checkout.installed_with()
    assert "-tensorflow2.21.0-gpu-" in checkout.cached()[0].parent.name
    assert "-nccl2.27.3-cuda12.9-" in checkout.cached()[0].parent.name
    checks = checkout.checks.read_text().splitlines()
    assert [check.partition("check_horovod.py ")[2] for check in checks] == ["gloo 2 180", "nccl 2 180"]
    checkout.env.clear()
    checkout.env["PATH"] = os.environ["PATH"]
    assert checkout.run("gpu") == (0, "")


@pytest.mark.parametrize("failing", ["build", "check"])
def test_where_nccl_fails_gloo_is_built_and_it_is_said(tmp_path, failing):
    checkout = GpuCheckout(tmp_path)
    if failing == "build":
        checkout.set_build('if [[ -n "${HOROVOD_GPU_OPERATIONS:-}" ]]; then echo nvcc: error: x; exit 1; fi')
    else:
        checkout.set_check('if [[ "$*" == *" nccl "* ]]; then echo no peer access; exit 1; fi')
    code, output = checkout.run()
    assert code == 0, output
    assert f"with NCCL its {failing} failed (.venv/horovod-build-nccl.log)" in output
    assert "GPU tensors go through the host with Gloo" in output
    assert not [line for line in checkout.installed_with() if line.startswith("HOROVOD_GPU_OPERATIONS")]
    assert checkout.stamp.exists()


def test_without_nccl_it_is_said_that_gpu_tensors_go_through_the_host(tmp_path):
    checkout = GpuCheckout(tmp_path)
    (checkout.nccl / "lib/libnccl.so.2").unlink()
    code, output = checkout.run("gpu")
    assert code == 0, output
    assert "GPU tensors go through the host with Gloo: the CUDA compiler (nvcc) or NCCL" in output
    assert not [line for line in checkout.installed_with() if line.startswith("HOROVOD_GPU_OPERATIONS")]


def test_a_cache_that_cannot_be_written_is_named(checkout, tmp_path):
    (tmp_path / "file").touch()
    checkout.env["TRIMFLOW_CACHE"] = str(tmp_path / "file")
    code, output = checkout.run()
    assert code == 2
    assert "set TRIMFLOW_CACHE to a folder" in output.splitlines()[-1]
    del checkout.env["TRIMFLOW_CACHE"], checkout.env["HOME"]
    checkout.env.pop("XDG_CACHE_HOME", None)
    assert "HOME is not set" in checkout.run()[1]


@pytest.mark.parametrize("arguments", [("tpu",), ("cpu", "gpu"), ("",)])
def test_wrong_arguments_are_refused(checkout, arguments):
    code, output = checkout.run(*arguments)
    assert code == 2
    assert "cpu or gpu" in output


@pytest.mark.parametrize("is_alone", [False, True])
def test_the_installed_horovod_sums_over_two_processes_and_its_check_can_fail(is_alone):
    horovodrun = Path(sys.executable).with_name("horovodrun")
    if not horovodrun.exists():
        pytest.skip("Horovod is not installed: scripts/install_horovod.sh")
    command = [sys.executable, "scripts/check_horovod.py", "gloo", "2", "100"]
    process = subprocess.run(
        command if is_alone else [horovodrun, "-np", "2", "--gloo", *command],
        cwd=REPOSITORY,
        env=os.environ | {"PATH": f"{horovodrun.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    if is_alone:
        assert process.returncode == 1
        assert process.stderr.splitlines()[-1] == "Horovod must join 2 processes. Received: 1"
    else:
        assert process.returncode == 0, process.stderr
