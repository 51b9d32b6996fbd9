"""Follows an MPIJob: shows its launcher's log, says what it waits for, and ends with the job's result."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from launchers.kubectl import FollowError, Kubectl, KubectlError
from utils.errors import InputError, RunError

PATIENCE = 20  # seconds of waiting without a known reason, after which the cluster's warnings are looked at
UNREACHABLE_AFTER = 120  # seconds without an answer of the cluster, after which following ends
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds between two looks
_NO_IMAGE = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_STILL_STARTING = ("ContainerCreating", "PodInitializing")


class Attempt(NamedTuple):
    """One start of the launcher; a restart in the same pod is another one."""

    pod: str
    restarts: int


class Waiting(NamedTuple):
    """What a job's pods wait for."""

    text: str
    is_hopeless: bool = False  # it will not change by itself
    has_reason: bool = True


def follow(kubectl: Kubectl, name: str, say: Callable[[str], None], show: Callable[[str], None]) -> None:
    """Follows the job until it has succeeded.

    Args:
        name: of the job.
        say: takes our own lines.
        show: takes the lines of the launcher's log, each with its end.

    Raises:
        RunError: the job failed, was deleted, or the cluster did not answer for long.
        InputError: the job waits for what will not come by itself, such as an image that is not there.
    """
    _Follower(kubectl, name, say, show).run()


def outcome(job: dict[str, Any]) -> tuple[str, str]:
    """`Succeeded` or `Failed`, and what the operator says of it; ("", "") for a job that goes on."""
    status = job.get("status", {})
    for condition in status.get("conditions", []):
        # An evicted worker makes a job Failed as well, but not complete: the operator goes on with it.
        if (
            condition["type"] in ("Succeeded", "Failed")
            and condition["status"] == "True"
            and "completionTime" in status
        ):
            return condition["type"], condition.get("message", "")
    return "", ""


def waiting(pods: Sequence[dict[str, Any]]) -> Waiting:
    """What the pods wait for: the first one's reason, if there is one that tells more than that it starts."""
    for pod in pods:
        found = _reason(pod)
        if found:
            return found
    started = sum(pod.get("status", {}).get("phase") == "Running" for pod in pods)
    if not pods:
        return Waiting("waiting for the job's pods", has_reason=False)
    return Waiting(f"waiting for the job's pods: {started} of {len(pods)} run", has_reason=False)


def _reason(pod: dict[str, Any]) -> Waiting | None:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Waiting(_line(f"waiting: no node takes pod {name}", condition))
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for container in containers:
        state = container.get("state", {})
        why = state.get("waiting", {})
        reason = why.get("reason", "")
        if reason in _NO_IMAGE:
            return Waiting(_line(f"the image of pod {name} cannot be had: {container.get('image')}", why), True)
        ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
        if ended.get("exitCode") and (reason or "terminated" in state):
            text = f"waiting: container {container['name']} of pod {name} ended with exit code {ended['exitCode']}"
            return Waiting(_line(text, ended))
        if reason and reason not in _STILL_STARTING:
            return Waiting(_line(f"waiting: pod {name}: {reason}", why))
    return None


def _line(text: str, source: dict[str, Any]) -> str:
    """`text` and the last line of what Kubernetes says."""
    said = (source.get("message") or source.get("reason") or "").strip().splitlines()
    return f"{text} ({said[-1][:300]})" if said else text


class _Follower:
    def __init__(self, kubectl: Kubectl, name: str, say: Callable[[str], None], show: Callable[[str], None]):
        self._kubectl, self._name, self._say, self._show = kubectl, name, say, show
        self._since: dict[Attempt, str] = {}  # time of the last line shown
        self._done: set[Attempt] = set()
        self._said = ""
        self._is_first_look = True
        self._waiting_since = time.monotonic()

    def run(self) -> None:
        answered, pause = time.monotonic(), _SHORTEST_PAUSE
        while True:
            try:
                job, pods = self._kubectl.job(self._name), self._kubectl.pods(self._name)
            except KubectlError as error:
                if time.monotonic() - answered > UNREACHABLE_AFTER:
                    raise RunError(f"{error.explained()}; the job itself may go on") from error
                self._tell(f"kubectl failed, trying again: {error}")
            else:
                answered = time.monotonic()
                if self._follow_launchers(pods, job):
                    pause = _SHORTEST_PAUSE
                if self._is_over(job):
                    return
                self._tell_what_is_awaited(pods)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _is_over(self, job: dict[str, Any] | None) -> bool:
        """Whether the job has succeeded."""
        if job is None:
            raise RunError(f"the job {self._name} has been deleted")
        result, message = outcome(job)
        if result == "Failed":
            raise RunError(f"the job {self._name} failed: {message or 'no reason given'}")
        return result == "Succeeded"

    def _follow_launchers(self, pods: Sequence[dict[str, Any]], job: dict[str, Any] | None) -> bool:
        """Shows what is new in the launcher's log; whether there was something."""
        launchers = [pod for pod in pods if _role(pod) == "launcher"]
        attempts = [attempt for attempt in map(_attempt, launchers) if attempt]
        if self._is_first_look and attempts:  # of a job that has run for long only the current try is shown
            self._done.update(attempt for attempt, _ in attempts[:-1])
            self._is_first_look = False
        has_new = False
        for attempt, ended in attempts:
            if attempt in self._done:
                continue
            before = self._since.get(attempt, "")
            try:
                after = self._kubectl.follow_log(attempt.pod, "launcher", before, self._show)
            except FollowError as error:
                after = error.since
                self._tell(f"the log broke off, trying again: {error}")
            self._since[attempt] = after
            self._waiting_since = time.monotonic()
            has_new = has_new or after != before
            if ended is not None:  # before the log was shown, which was whole then
                self._done.add(attempt)
                if job is not None and not outcome(job)[0] and ended["exitCode"]:
                    self._say_of_retry(ended["exitCode"], job)
        return has_new

    def _say_of_retry(self, exit_code: int, job: dict[str, Any]) -> None:
        retries = job["spec"].get("runPolicy", {}).get("backoffLimit", 6)
        self._say(
            f"the launcher ended with exit code {exit_code}; where one of {retries} retries is left, Kubernetes starts "
            "it again, and it goes on from the last checkpoint"
        )

    def _tell_what_is_awaited(self, pods: Sequence[dict[str, Any]]) -> None:
        launchers = [pod for pod in pods if _role(pod) == "launcher"]
        if launchers and launchers[-1].get("status", {}).get("phase") != "Pending":
            return
        state = waiting([pod for pod in pods if pod.get("status", {}).get("phase") in ("Pending", "Running")])
        if state.is_hopeless:
            raise InputError(f"{state.text}. The job starts by itself as soon as the image is there")
        if not state.has_reason and time.monotonic() - self._waiting_since > PATIENCE:
            warnings = self._warnings()
            hint = "" if pods else "; does the MPI operator run in the cluster?"
            state = Waiting(f"{state.text} ({warnings[-1][:300]})" if warnings else f"{state.text}{hint}")
        self._tell(state.text)

    def _warnings(self) -> list[str]:
        """The cluster's warnings, where it shows them to this user."""
        try:
            return self._kubectl.warnings(self._name)
        except KubectlError:
            return []

    def _tell(self, text: str) -> None:
        """Says it, unless it was the last thing said."""
        if text != self._said:
            self._say(text)
            self._said = text


def _role(pod: dict[str, Any]) -> str:
    return pod["metadata"].get("labels", {}).get("training.kubeflow.org/job-role", "")


def _attempt(pod: dict[str, Any]) -> tuple[Attempt, dict[str, Any] | None] | None:
    """The pod's latest start and, where it has ended, how; None where it has not started."""
    for container in pod.get("status", {}).get("containerStatuses", []):
        state = container.get("state", {})
        attempt = Attempt(pod["metadata"]["name"], container.get("restartCount", 0))
        if container["name"] == "launcher" and ("running" in state or "terminated" in state):
            return attempt, state.get("terminated")
    return None
