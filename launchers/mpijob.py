"""The manifest of a Kubeflow MPIJob (kubeflow.org/v2beta1) for one run: pure functions from values to a dictionary."""

import hashlib
import json
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from utils.errors import InputError

ROOT = "/opt/trimflow"  # the repository in our images
DATA = "/data"
HOME = "/home/trimflow"
USER_ID = 1000  # of the user trimflow in our images: sshd needs one that /etc/passwd knows
SSH_PORT = 2222
KEPT_FOLDERS = ("runs", "models", "logs")  # below ROOT, on the volume of runs
WAIT_FOR_HOSTS = 300  # seconds that the launcher waits for a worker that starts again

COMMAND_ANNOTATION = "trimflow-command"
DIGEST_ANNOTATION = "trimflow-manifest-sha256"
LABELS = {"app.kubernetes.io/name": "trimflow", "app.kubernetes.io/managed-by": "run-seven"}

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # RFC 1123
_JOB_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # RFC 1035: the operator makes a Service of that name
_LONGEST_LABEL = 63
_CLAIM = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_LONGEST_CLAIM = 253
_COMPONENT = r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]+)?/)?{_COMPONENT}(/{_COMPONENT})*"
    r"(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_LONGEST_IMAGE = 512


class Volume(NamedTuple):
    """A folder of a persistent volume claim, or, with no claim, of each node (hostPath)."""

    claim: str
    path: str  # below the claim's top, "" for the top itself; absolute without a claim


@dataclass(frozen=True)
class Job:
    """All that a manifest is made of."""

    name: str
    image: str
    command: tuple[str, ...]  # net script, flags
    num_processes: int
    num_slots: int  # processes a worker pod
    uses_gpus: bool
    runs: Volume
    data: Volume | None = None  # None: nothing is mounted at /data
    namespace: str = ""  # "": the one that kubectl is set to
    num_retries: int = 3

    @property
    def num_workers(self) -> int:
        """Worker pods, each with `num_slots` processes."""
        return self.num_processes // self.num_slots


def parse_volume(key: str, value: str) -> Volume:
    """The volume that `pvc:CLAIM`, `pvc:CLAIM/folder` or an absolute path names.

    Raises:
        InputError: it is neither; `key`, of path.conf, is named.
    """
    is_claim = value.startswith("pvc:")
    claim, _, path = value.removeprefix("pvc:").partition("/") if is_claim else ("", "", value)
    is_named = len(claim) <= _LONGEST_CLAIM and _CLAIM.fullmatch(claim) if is_claim else value.startswith("/")
    if not is_named or ".." in path.split("/"):
        raise InputError(
            f"path.conf: {key} must be pvc:CLAIM, pvc:CLAIM/folder or an absolute path of the cluster's nodes, "
            f"without `..`. Received: {value!r}"
        )
    path = posixpath.normpath(f"/{path}").lstrip("/")
    return Volume(claim, path if is_claim else f"/{path}")


def slots_per_worker(num_processes: int, per_node: int) -> int:
    """Processes a worker pod: an MPIJob has the same number in each.

    Raises:
        InputError: they do not fill their nodes evenly.
    """
    if num_processes <= per_node:
        return num_processes
    if num_processes % per_node:
        raise InputError(
            f"-n above {per_node} must be a multiple of it, the processes a node (--gpus_per_node or --cpus_per_node): "
            f"every worker of an MPIJob has as many. Received: {num_processes}"
        )
    return per_node


def check_job_name(name: str, num_workers: int) -> None:
    """Raises InputError for a name from which Kubernetes cannot make the names of the job's parts."""
    longest = longest_job_name(num_workers)
    if not _JOB_NAME.fullmatch(name) or len(name) > longest:
        raise InputError(
            f"-j must be a name of at most {longest} letters a-z, digits and hyphens that begins with a letter and "
            f"does not end with a hyphen: Kubernetes takes no other. Received: {name!r}"
        )


def longest_job_name(num_workers: int) -> int:
    """Letters that a job's name may have: its pods' and services' names, with their suffixes, are labels of DNS."""
    return _LONGEST_LABEL - max(len("-launcher"), len(f"-worker-{num_workers - 1}"))


def default_job_name(command: Sequence[str], learner: str, num_workers: int) -> str:
    """Net, learner and a hash of the command: the same command has the same name, whatever its number of workers."""
    digest = hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    net = posixpath.basename(command[0]).removesuffix(".py").removesuffix("_run")
    text = re.sub(r"[^a-z0-9]+", "-", f"{net}-{learner}".lower()).strip("-")
    text = text if text[:1].isalpha() else f"net-{text}"
    return f"{text[: longest_job_name(num_workers) - 9].rstrip('-')}-{digest}"


def check_namespace(namespace: str) -> None:
    """Raises InputError for what cannot be a namespace."""
    if not _LABEL.fullmatch(namespace) or len(namespace) > _LONGEST_LABEL:
        raise InputError(
            f"--namespace must be at most {_LONGEST_LABEL} letters a-z, digits and hyphens, with a letter or digit at "
            f"both ends. Received: {namespace!r}"
        )


def check_image(image: str, name: str = "--image") -> None:
    """Raises InputError for what cannot be an image's name."""
    if not _IMAGE.fullmatch(image) or len(image) > _LONGEST_IMAGE:
        raise InputError(
            f"{name} must be an image such as registry.example.com/team/trimflow:gpu-0123456789ab. Received: {image!r}"
        )


def manifest(job: Job) -> dict[str, Any]:
    """The MPIJob; two jobs have equal manifests exactly where all that they are made of is equal."""
    metadata: dict[str, Any] = {"name": job.name}
    if job.namespace:
        metadata["namespace"] = job.namespace
    metadata |= {"labels": dict(LABELS), "annotations": {COMMAND_ANNOTATION: json.dumps(job.command)}}
    whole = {"apiVersion": "kubeflow.org/v2beta1", "kind": "MPIJob", "metadata": metadata, "spec": _spec(job)}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
    metadata["annotations"][DIGEST_ANNOTATION] = digest
    return whole


def _spec(job: Job) -> dict[str, Any]:
    return {
        "slotsPerWorker": job.num_slots,
        "mpiImplementation": "OpenMPI",  # only for its format of the hostfile: `host slots=8`
        "sshAuthMountPath": f"{HOME}/.ssh",
        # A job may wait for GPUs for hours; its launcher would give up on its hosts long before.
        "launcherCreationPolicy": "WaitForWorkersReady",
        # Workers go when the job ends, which frees their GPUs. A ttlSecondsAfterFinished would take the logs along.
        "runPolicy": {"cleanPodPolicy": "Running", "backoffLimit": job.num_retries},
        "mpiReplicaSpecs": {
            # A retry is a new pod with the same command, which goes on from the last checkpoint. With OnFailure it is
            # the same pod, which Kubernetes deletes, with its log, when there are no retries left.
            "Launcher": {"replicas": 1, "restartPolicy": "Never", "template": _template(job, _launcher(job))},
            # With Never the operator would leave a dead worker as it is, and no retry could ever reach it. It takes no
            # Always.
            "Worker": {
                "replicas": job.num_workers,
                "restartPolicy": "OnFailure",
                "template": _template(job, _worker(job), [_shared_memory()]),
            },
        },
    }


def _launcher(job: Job) -> dict[str, Any]:
    """The container that starts all processes over ssh."""
    words = [f"-n={job.num_processes}", "--hostfile=/etc/mpi/hostfile", f"--wait_for_hosts={WAIT_FOR_HOSTS}", "--"]
    return {
        "name": "launcher",
        "command": [f"{ROOT}/.venv/bin/python", "-m", "launchers.horovod"],
        "args": [_literal(word) for word in [*words, *job.command]],
        "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}, {"name": "TF_CPP_MIN_LOG_LEVEL", "value": "2"}],
    }


def _worker(job: Job) -> dict[str, Any]:
    """The container that the launcher's processes run in."""
    resources = {"limits": {"nvidia.com/gpu": job.num_slots}} if job.uses_gpus else {"requests": {"cpu": job.num_slots}}
    return {
        "name": "worker",
        "command": ["/usr/sbin/sshd"],
        "args": ["-De", "-f", f"{HOME}/.sshd_config"],
        "resources": resources,
        "readinessProbe": {"tcpSocket": {"port": SSH_PORT}, "periodSeconds": 10},
        # NCCL and the data pipeline exchange more through it than the 64 MiB of a pod's default.
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
    }


def _shared_memory() -> dict[str, Any]:
    return {"name": "shared-memory", "emptyDir": {"medium": "Memory"}}


def _template(job: Job, container: dict[str, Any], volumes: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A pod of our image with the volumes of the job, which nobody may use as root."""
    folder = "/volume" if not job.runs.claim else posixpath.normpath(f"/volume/{job.runs.path}")
    mounts: list[dict[str, Any]] = [
        {"name": "runs", "mountPath": f"{ROOT}/{name}", "subPath": _below(job.runs, name)} for name in KEPT_FOLDERS
    ]
    volumes = [_source("runs", job.runs), *volumes]
    if job.data is not None:
        mounts.append({"name": "data", "mountPath": DATA, "readOnly": True})
        if job.data.claim and job.data.path:
            mounts[-1]["subPath"] = job.data.path
        volumes.append(_source("data", job.data))
    common = {
        "image": job.image,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    # What a subPath lacks Kubernetes would make as root's.
    folders = {
        "name": "folders",
        "command": ["mkdir", "-p", *(f"{folder}/{name}" for name in KEPT_FOLDERS)],
        "volumeMounts": [{"name": "runs", "mountPath": "/volume"}],
    }
    main = {"workingDir": ROOT, **container, "volumeMounts": [*container.get("volumeMounts", ()), *mounts]}
    return {
        "metadata": {"labels": dict(LABELS)},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [{"name": folders["name"]} | common | folders],
            "containers": [{"name": main["name"]} | common | main],
            "volumes": volumes,
        },
    }


def _source(name: str, volume: Volume) -> dict[str, Any]:
    if volume.claim:
        return {"name": name, "persistentVolumeClaim": {"claimName": volume.claim}}
    return {"name": name, "hostPath": {"path": volume.path, "type": "Directory"}}


def _below(volume: Volume, name: str) -> str:
    """The subPath of folder `name` of the volume."""
    return posixpath.join(volume.path, name) if volume.claim else name


def _literal(word: str) -> str:
    """`word` so that Kubernetes hands over just that: it replaces `$(NAME)` in arguments, and `$$` by `$`.

    Raises:
        InputError: it is no text.
    """
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a flag must be UTF-8 text. Received: {word!r}") from error
    return word.replace("$", "$$")


class _Dumper(yaml.SafeDumper):
    """Quotes each string that any reader of YAML, 1.1 or 1.2, could take for something else, such as 1e3 or y."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = re.fullmatch(
        r"[A-Za-z/][-A-Za-z0-9_./]{2,}", text
    )  # still quoted where PyYAML itself knows it, as `yes`
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_Dumper.add_representer(str, _represent_string)


def to_yaml(whole: dict[str, Any]) -> str:
    """The manifest as YAML in ASCII, its keys in the order given."""
    return yaml.dump(whole, Dumper=_Dumper, sort_keys=False, width=2**31)
