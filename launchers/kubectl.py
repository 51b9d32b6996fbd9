"""The program kubectl: what it answers as values, what it complains of as one line for users."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from typing import Any

from utils.errors import InputError

MPIJOBS = "mpijobs.v2beta1.kubeflow.org"
OPERATOR = "the MPI operator v2beta1 is needed (mpi-operator of the Kubeflow project)"
_TIMEOUT = "--request-timeout=30s"
_CAUSES = (
    (r"doesn't have a resource type|no matches for kind", f"the cluster knows no MPIJob: {OPERATOR}"),
    (r"unknown field", "the cluster's MPI operator is too old: it must know this field"),
    (
        r"unable to connect|was refused|no such host|i/o timeout|timed out|deadline exceeded|tls handshake",
        "the cluster cannot be reached: does `kubectl config current-context` name the right one, is the network up?",
    ),
    (r"forbidden|unauthorized|must be logged in", "the cluster does not allow this: ask whoever runs it"),
    (r'namespaces? "[^"]*" not found', "--namespace must be one that the cluster has"),
)


class KubectlError(Exception):
    """kubectl ended with an error; the message is its last line."""

    def explained(self) -> str:
        """One line with the probable cause."""
        said = str(self)
        for pattern, cause in _CAUSES:
            if re.search(pattern, said, re.IGNORECASE):
                return f"{cause}. kubectl says: {said}"
        return f"kubectl says: {said}"


class Kubectl:
    """kubectl in one namespace; "" is the one that it is set to."""

    def __init__(self, namespace: str = ""):
        """Raises InputError where there is no such program."""
        self._program = shutil.which("kubectl") or ""
        if not self._program:
            raise InputError(
                "the program kubectl is needed, and there is none on PATH: install it as on "
                "https://kubernetes.io/docs/tasks/tools and set it up for your cluster (--dry_run needs neither)"
            )
        self._options = [f"--namespace={namespace}"] if namespace else []

    def command(self, *words: str) -> list[str]:
        """kubectl's command line as a user would type it."""
        return ["kubectl", *self._options, *words]

    def job(self, name: str) -> dict[str, Any] | None:
        """The MPIJob of that name, or None."""
        text = self._run("get", MPIJOBS, name, "--ignore-not-found", "--output=json", _TIMEOUT)
        return json.loads(text) if text.strip() else None

    def pods(self, job_name: str) -> list[dict[str, Any]]:
        """The job's pods, oldest first."""
        selector = f"--selector=training.kubeflow.org/job-name={job_name}"
        pods = json.loads(self._run("get", "pods", selector, "--output=json", _TIMEOUT))["items"]
        return sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]))

    def warnings(self, job_name: str) -> list[str]:
        """The messages of warnings about the job, its launcher and its pods, oldest first."""
        text = self._run("get", "events", "--field-selector=type=Warning", "--output=json", _TIMEOUT)
        of_job = re.compile(rf"{re.escape(job_name)}(-launcher(-[a-z0-9]+)?|-worker-[0-9]+)?")
        events = [event for event in json.loads(text)["items"] if of_job.fullmatch(event["involvedObject"]["name"])]
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return [f"{event['involvedObject']['name']}: {event.get('message', '')}" for event in events]

    def apply(self, manifest: str) -> None:
        """Hands a manifest to the cluster."""
        self._run("apply", "--filename=-", _TIMEOUT, text=manifest)

    def delete_job(self, name: str) -> None:
        """Deletes a job, waiting for all of its parts to be gone."""
        self._run("delete", MPIJOBS, name, "--ignore-not-found", "--cascade=foreground", "--wait", "--timeout=300s")

    def follow_log(self, pod: str, container: str, since: str, show: Callable[[str], None]) -> str:
        """Shows a container's log until it or the connection ends; only what came after `since`, a time, "" for all.

        Returns:
            The time of the last line there was, for the next call.

        Raises:
            KubectlError: kubectl could not show it, or not to its end.
        """
        words = ["logs", "--follow", "--timestamps", f"--container={container}", pod]
        if since:
            words.append(f"--since-time={since}")
        with subprocess.Popen(
            [self._program, *self._options, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                for line in process.stdout:
                    time, _, text = line.partition(" ")
                    # kubectl takes whole seconds only.
                    if not since or _nanoseconds(time) > _nanoseconds(since):
                        show(text)
                        since = time
                said = process.stderr.read()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise FollowError(_last_line(said), since)
        return since

    def _run(self, *words: str, text: str | None = None) -> str:
        given = {"stdin": subprocess.DEVNULL} if text is None else {"input": text}
        command = [self._program, *self._options, *words]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **given)
        if result.returncode:
            raise KubectlError(_last_line(result.stderr))
        return result.stdout


class FollowError(KubectlError):
    """A log broke off; `since` is the time of the last line shown."""

    def __init__(self, message: str, since: str):
        super().__init__(message)
        self.since = since


def _last_line(said: str) -> str:
    return (said.strip().splitlines() or ["nothing"])[-1][:500]


def _nanoseconds(time: str) -> int:
    """A time as 2026-01-31T12:00:00.123456789Z in nanoseconds; 0 for what is none."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", time)
    if not match:
        return 0
    whole, fraction, zone = match.groups()
    seconds = int(datetime.fromisoformat(whole + zone.replace("Z", "+00:00")).timestamp())
    return seconds * 10**9 + int((fraction or "0").ljust(9, "0"))
