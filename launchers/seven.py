"""The cluster ("seven") mode: a command line becomes a Kubeflow MPIJob. scripts/run_seven.sh starts it.

python -m launchers.seven NET_SCRIPT -n=8 [-j=name] [--image I] [--namespace N] [FLAGS]
"""

import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from launchers import mpijob
from launchers.cluster_paths import OWN, ROOT, make_command
from launchers.follow import follow, outcome
from launchers.kubectl import Kubectl, KubectlError
from utils.errors import InputError, RunError
from utils.path_conf import read_path_conf

_NUMBERS = {"-n": 1, "--nb_gpus": 1, "--gpus_per_node": 1, "--cpus_per_node": 1, "--retries": 0}  # name -> the least
_MOST = 9999
_TEXTS = ("-j", "--image", "--namespace")


@dataclass
class Options:
    """The script's own options, and what is left for main.py."""

    net_script: str = ""
    values: dict[str, str] = field(default_factory=dict)
    is_dry_run: bool = False
    flags: list[str] = field(default_factory=list)

    def number(self, name: str, default: int) -> int:
        """The value of an option that is a number."""
        return int(self.values.get(name, default))


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 the job succeeded, 1 it failed, 2 a mistake in the command or of the cluster's setting."""
    try:
        signal.signal(signal.SIGTERM, _stop)
        _run(arguments)
    except InputError as error:
        return _complain(error, 2)
    except RunError as error:
        return _complain(error, 1)
    except _Terminated:
        return 143
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `run_seven.sh ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def read_options(arguments: Sequence[str]) -> Options:
    """Parts the script's own options, `--name value` or `--name=value`, from main's flags; after `--` all are main's.

    Raises:
        InputError: an option is wrong, given twice, or has no value.
    """
    options = Options()
    words = list(arguments)
    if words and not words[0].startswith("-"):
        options.net_script = words.pop(0)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            options.flags += words
            break
        if word == "--dry_run":
            options.is_dry_run = True
        elif name in _NUMBERS or name in _TEXTS:
            if not equals and not words:
                raise InputError(f"{name} needs a value. Received: none")
            _take(options, "-n" if name == "--nb_gpus" else name, value if equals else words.pop(0))
        else:
            options.flags.append(word)
    if "--gpus_per_node" in options.values and "--cpus_per_node" in options.values:
        raise InputError("a job runs on GPUs or on CPUs. Received: both --gpus_per_node and --cpus_per_node")
    return options


def _take(options: Options, name: str, value: str) -> None:
    if name in options.values:
        raise InputError(f"{name} must be given once. Received: {options.values[name]} and {value}")
    if name in _NUMBERS and not (value.isascii() and value.isdigit() and _NUMBERS[name] <= int(value) <= _MOST):
        raise InputError(f"{name} must be a whole number from {_NUMBERS[name]} to {_MOST}. Received: {value!r}")
    options.values[name] = value


def make_job(options: Options) -> mpijob.Job:
    """All checks that need no cluster.

    Raises:
        InputError: something is wrong in the options, the flags or path.conf.
    """
    if not options.net_script:
        raise InputError(f"the first argument must be a net script. Received: {(options.flags or ['nothing'])[0]}")
    uses_gpus = "--cpus_per_node" not in options.values
    per_node = options.number("--gpus_per_node", 8) if uses_gpus else options.number("--cpus_per_node", 8)
    num_processes = options.number("-n", 1)
    num_slots = mpijob.slots_per_worker(num_processes, per_node)
    num_workers = num_processes // num_slots
    if "-j" in options.values:
        mpijob.check_job_name(options.values["-j"], num_workers)
    namespace = options.values.get("--namespace", "")
    if "--namespace" in options.values:
        mpijob.check_namespace(namespace)
    if "--image" in options.values:
        mpijob.check_image(options.values["--image"])

    settings = read_path_conf(ROOT / "path.conf")
    command = make_command(options.net_script, options.flags, settings)
    data = None
    if command.reads_data:
        is_own = command.dataset == OWN
        otherwise = "" if is_own else "; or give --data_disk embedded for the small data set digits32"
        data = _volume(settings, f"data_dir_seven_{command.dataset}", "the data that becomes /data", otherwise)
    return mpijob.Job(
        name=options.values.get("-j") or mpijob.default_job_name(command.words, command.learner, num_workers),
        image=options.values.get("--image") or _default_image(settings, uses_gpus),
        command=command.words,
        num_processes=num_processes,
        num_slots=num_slots,
        uses_gpus=uses_gpus,
        runs=_volume(settings, "data_dir_seven_runs", "a folder that keeps runs, models and logs"),
        data=data,
        namespace=namespace,
        num_retries=options.number("--retries", 3),
    )


def _volume(settings: dict[str, str], key: str, what: str, otherwise: str = "") -> mpijob.Volume:
    if key not in settings:
        raise InputError(
            f"path.conf must say where the cluster has {what}: write the line `{key} = pvc:CLAIM/folder` (a persistent "
            f"volume claim), or `{key} = /folder/on/every/node`{otherwise}. Received: no such line"
        )
    return mpijob.parse_volume(key, settings[key])


def _default_image(settings: dict[str, str], uses_gpus: bool) -> str:
    if "image_seven" not in settings:
        variant = "gpu" if uses_gpus else "cpu"
        raise InputError(
            "an image that the cluster can pull is needed: build it with scripts/run_docker.sh, push it "
            f"(docker tag trimflow:{variant}-COMMIT REGISTRY/trimflow:{variant}-COMMIT, then docker push), and give it "
            "as --image, or write it into path.conf as `image_seven = ...`. Received: neither"
        )
    mpijob.check_image(settings["image_seven"], "path.conf: image_seven")
    return settings["image_seven"]


def _run(arguments: Sequence[str]) -> None:
    options = read_options(arguments)
    job = make_job(options)
    manifest = mpijob.manifest(job)
    if options.is_dry_run:
        print(mpijob.to_yaml(manifest), end="", flush=True)
        return
    kubectl = Kubectl(job.namespace)
    try:
        submit(kubectl, job, manifest)
    except KubectlError as error:
        raise InputError(error.explained()) from error
    try:
        follow(kubectl, job.name, _say, _show)
    except KeyboardInterrupt:
        _say(f"no longer following; the job goes on. {_hints(kubectl, job.name)}")
        raise
    except (InputError, RunError):
        _say(_hints(kubectl, job.name))
        raise
    _say(f"the job {job.name} has succeeded")


def submit(kubectl: Kubectl, job: mpijob.Job, manifest: dict[str, Any]) -> None:
    """Hands the job to the cluster unless the same one runs there already; one that is over is replaced.

    Raises:
        InputError: another job of that name runs.
        KubectlError: the cluster cannot be reached or refuses.
    """
    there = kubectl.job(job.name)
    if there is not None:
        metadata = there["metadata"]
        result, _ = outcome(there)
        notes = metadata.get("annotations", {})
        is_same = notes.get(mpijob.DIGEST_ANNOTATION) == manifest["metadata"]["annotations"][mpijob.DIGEST_ANNOTATION]
        if not result and is_same and "deletionTimestamp" not in metadata:
            _say(f"the job {job.name} is there already, of the same command")
            return
        if not result and "deletionTimestamp" not in metadata:
            raise InputError(
                f"the name {job.name} is taken: a job of another command or setting runs under it "
                f"({_command_of(notes)}). {_hints(kubectl, job.name)}. Or give this one another name with -j=NAME"
            )
        _say(f"deleting the job {job.name}, which has {result.lower() or 'been deleted'}, to go on from what it left")
        kubectl.delete_job(job.name)
    kubectl.apply(mpijob.to_yaml(manifest))
    _say(
        f"job {job.name}: {job.num_processes} processes in {job.num_workers} worker pods, image {job.image}. Ctrl-C "
        "stops following, not the job"
    )


def _command_of(notes: dict[str, str]) -> str:
    """The command that a job's annotations tell."""
    try:
        return shlex.join(json.loads(notes[mpijob.COMMAND_ANNOTATION]))
    except (KeyError, ValueError, TypeError):
        return "not made by run_seven.sh"


def _hints(kubectl: Kubectl, name: str) -> str:
    log = shlex.join(kubectl.command("logs", "--follow", f"job/{name}-launcher"))
    delete = shlex.join(kubectl.command("delete", "mpijob", name))
    return f"Follow it: its command again, or {log}. Delete it: {delete}"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C but for the exit code."""


def _stop(*_: object) -> NoReturn:
    raise _Terminated


def _say(text: str) -> None:
    print(f"run_seven: {text}", file=sys.stderr, flush=True)


def _complain(error: Exception, code: int) -> int:
    print(f"run_seven.sh: error: {error}", file=sys.stderr, flush=True)
    return code


def _show(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
