"""Runs the steps of docker/Dockerfile without Docker, in directories: for machines where no engine runs. Needs root.

    python -m tests.docker.replay ROOTFS WORK [TARGET]

ROOTFS is a directory that stands in for the base image, with Python 3.11, for example by

    debootstrap --variant=minbase --include=ca-certificates,python3-venv bookworm ROOTFS

Each stage that TARGET [cpu] needs becomes a directory in WORK, of which `cpu` is what the image would be. RUN steps run
in a chroot with mounts and processes of their own, and with the network; the caller's PIP_* settings are handed on.
What this does not show: pulling, the layers' cache, and how a container is isolated.
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.docker.dockerfile import ROOT, Instruction, context_files, read_dockerfile, substitute

# Makes what a container finds in /proc and /dev, enters, and becomes the user $2; the mounts end with it.
ENTER = """
set -eu
root="$1" user="$2" workdir="$3"
shift 3
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
while [ "$1" != -- ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
done
shift
exec chroot --userspec="$user" --groups= "$root" /bin/sh -c 'cd -- "$0" && exec "$@"' "$workdir" "$@"
"""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def enter(
    root: Path,
    command: list[str],
    environment: dict[str, str],
    workdir: str,
    user: str = "0:0",
    mounts: dict[Path, str] | None = None,
    **options,
) -> subprocess.CompletedProcess:
    """Runs a command in the directory `root` as `user` (uid:gid); `mounts` is directory outside -> place inside."""
    pairs = [str(word) for pair in (mounts or {}).items() for word in pair]
    words = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        ENTER,
        "enter",
        str(root),
        user,
        workdir,
    ]
    environment = {"PATH": DEFAULT_PATH} | environment
    # The programs that enter are found by the caller's PATH.
    env = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    return subprocess.run([*words, *pairs, "--", *env, *command], check=False, **options)


class Replay:
    """Makes the stages of the Dockerfile as directories in `work`, from `rootfs` as every base image."""

    def __init__(self, rootfs: Path, work: Path):
        self.rootfs, self.work = rootfs, work
        self.dockerfile = read_dockerfile((ROOT / "docker/Dockerfile").read_text())
        self.environments: dict[str, dict[str, str]] = {}
        self.workdirs: dict[str, str] = {}
        self.users: dict[str, str] = {}
        self.caller = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}

    def make(self, name: str) -> Path:
        """The directory of a stage, made with all that it needs; one that an earlier replay has finished is kept."""
        root, finished = self.work / name, self.work / f"{name}.finished"
        if name in self.environments:
            return root
        stage = self.dockerfile.stages[name]
        base = self.make(stage.base) if stage.base in self.dockerfile.stages else self.rootfs
        self.environments[name] = dict(self.environments.get(stage.base, {}))
        self.workdirs[name] = self.workdirs.get(stage.base, "/")
        self.users[name] = self.users.get(stage.base, "0:0")
        is_finished = finished.exists()
        if not is_finished:
            print(f"replay: {name}, from {base.name}", flush=True)
            shutil.rmtree(root, ignore_errors=True)
            subprocess.run(["cp", "--archive", "--reflink=auto", base, root], check=True)
            if base == self.rootfs:
                self._let_it_out(root)
        for instruction in stage.instructions:
            if not is_finished or instruction.keyword in ("ENV", "WORKDIR", "USER"):
                self._do(name, root, instruction)
        finished.touch()
        return root

    @staticmethod
    def _let_it_out(root: Path) -> None:
        """Lets the chroot reach the network as this machine does, and itself as a container does."""
        for name in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"):
            target = root / name[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, target)
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {socket.gethostname()}\n")

    def _do(self, name: str, root: Path, instruction: Instruction) -> None:
        environment = self.environments[name]
        keyword = instruction.keyword
        if keyword == "RUN":
            self._run(name, root, instruction)
        elif keyword == "COPY":
            self._copy(name, root, instruction)
        elif keyword == "ENV":
            for word in instruction.words:
                key, _, value = word.partition("=")
                environment[key] = substitute(value, environment)
        elif keyword == "WORKDIR":
            self.workdirs[name] = instruction.text
            (root / instruction.text[1:]).mkdir(parents=True, exist_ok=True)
        elif keyword == "USER":
            self.users[name] = instruction.text
        else:
            assert keyword in ("ARG", "LABEL", "CMD"), keyword

    def _run(self, name: str, root: Path, instruction: Instruction) -> None:
        mounts = {}
        if "mount" in instruction.options:
            kind, target = instruction.options["mount"].split(",")
            assert kind == "type=cache", instruction
            target = target.removeprefix("target=")
            cache = self.work / "cache" / name
            cache.mkdir(parents=True, exist_ok=True)
            mounts[cache] = target
        print(f"replay: {name}: RUN {instruction.text}", flush=True)
        environment = {"HOME": "/root"} | self.caller | self.environments[name]
        command = ["/bin/sh", "-c", instruction.text]
        done = enter(root, command, environment, self.workdirs[name], self.users[name], mounts)
        if done.returncode:
            sys.exit(f"replay: line {instruction.line} of the Dockerfile failed with exit code {done.returncode}")

    def _copy(self, name: str, root: Path, instruction: Instruction) -> None:
        *sources, target = instruction.words
        place = root / os.path.join(self.workdirs[name], target)[1:]
        if "from" in instruction.options:
            (source,) = sources
            origin = self.make(instruction.options["from"])
            found = origin / os.path.join(self.workdirs[instruction.options["from"]], source)[1:]
            assert found.is_dir(), instruction
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "--archive", f"{found}/.", place], check=True)
            return
        files = context_files()
        for source in map(Path, sources):
            chosen = [file for file in files if source in (file, *file.parents)]
            assert chosen, f"line {instruction.line}: {source} is not sent to the engine"
            for file in chosen:
                to_folder = target.endswith("/") or target == "."
                copied = place / (file.name if file == source else file.relative_to(source)) if to_folder else place
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, copied)
                if "chmod" in instruction.options:
                    copied.chmod(int(instruction.options["chmod"], 8))


def main() -> None:
    if len(sys.argv) not in (3, 4) or os.geteuid() != 0:
        sys.exit(__doc__)
    rootfs, work = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    work.mkdir(exist_ok=True)
    replay = Replay(rootfs, work)
    target = sys.argv[3] if len(sys.argv) == 4 else "cpu"
    root = replay.make(target)
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in replay.environments[target].items())
    print(f"replay: {target} is {root}\nreplay: user {replay.users[target]}, {environment}")


if __name__ == "__main__":
    main()
