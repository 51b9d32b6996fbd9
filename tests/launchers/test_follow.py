"""Following a job in a cluster that is a list of looks at it."""

import pytest

from launchers import follow as module
from launchers.follow import follow, outcome, waiting
from launchers.kubectl import FollowError, KubectlError
from tests.launchers.cluster_objects import container_waiting, job, launcher, pod, unschedulable
from utils.errors import InputError, RunError

RUNNING = job(("Created", ""), ("Running", ""))
SUCCEEDED = job(("Running", ""), ("Succeeded", "all done"))
FAILED = job(("Running", ""), ("Failed", "BackoffLimitExceeded"))
WORKERS = [pod("prune-worker-0"), pod("prune-worker-1")]


class FakeCluster:
    """Each look at it takes the next state (job, pods); the last one stays.

    `logs` are what a pod's log shows from one call to the next; an error among them breaks it off.
    """

    def __init__(self, *states, logs=None, warnings=()):
        self.states, self.logs, self._warnings = list(states), logs or {}, warnings
        self.asked = []  # (pod, since) of each log

    def job(self, name):
        state = self.states[0]
        if isinstance(state, Exception):
            self._next()
            raise state
        return state[0]

    def pods(self, name):
        pods = self.states[0][1]
        self._next()
        return pods

    def _next(self):
        if len(self.states) > 1:
            self.states.pop(0)

    def warnings(self, name):
        if isinstance(self._warnings, Exception):
            raise self._warnings
        return list(self._warnings)

    def follow_log(self, pod_name, container, since, show):
        assert container == "launcher"
        self.asked.append((pod_name, since))
        calls = self.logs.get(pod_name, [])
        for line in calls.pop(0) if calls else []:
            if isinstance(line, str):
                raise FollowError(line, since)
            since, text = line
            show(text)
        return since


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where somebody sleeps."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.fixture
def watch(clock):
    """`watch(cluster)`: follows the job; what was said, what the log showed, and the error, if any."""

    def run(cluster):
        said, shown = [], []
        try:
            follow(cluster, "prune", said.append, shown.append)
        except (RunError, InputError) as error:
            return said, shown, error
        return said, shown, None

    return run


def test_the_log_is_shown_until_the_job_has_succeeded(watch):
    cluster = FakeCluster(
        (job(("Created", "")), []),
        (job(("Created", "")), [pod("prune-worker-0"), pod("prune-worker-1", "Pending")]),
        (RUNNING, [*WORKERS, launcher()]),
        (RUNNING, [*WORKERS, launcher(0)]),
        (SUCCEEDED, [launcher(0)]),
        logs={"prune-launcher-a": [[("t1", "epoch 1\n"), ("t2", "epoch 2\n")], [("t3", "done\n")]]},
    )
    said, shown, error = watch(cluster)
    assert error is None
    assert shown == ["epoch 1\n", "epoch 2\n", "done\n"]
    assert cluster.asked == [("prune-launcher-a", ""), ("prune-launcher-a", "t2")]
    assert said == ["waiting for the job's pods", "waiting for the job's pods: 1 of 2 run"]


def test_a_job_that_ends_between_two_looks_is_shown_whole(watch):
    cluster = FakeCluster((SUCCEEDED, [launcher(0)]), logs={"prune-launcher-a": [[("t1", "done\n")]]})
    assert watch(cluster) == ([], ["done\n"], None)


def test_a_failed_job_ends_with_what_the_operator_says(watch):
    cluster = FakeCluster((FAILED, [launcher(1)]), logs={"prune-launcher-a": [[("t1", "error: no data\n")]]})
    said, shown, error = watch(cluster)
    assert isinstance(error, RunError)
    assert str(error) == "the job prune failed: BackoffLimitExceeded"
    assert (said, shown) == ([], ["error: no data\n"])


@pytest.mark.parametrize(
    "second", [launcher(name="prune-launcher-b", number=2), launcher(restarts=1)], ids=["another pod", "same pod"]
)
def test_a_launcher_that_is_started_again_is_followed_again(watch, second):
    name = second["metadata"]["name"]
    first = [] if name == "prune-launcher-a" else [launcher(1)]
    logs = {"prune-launcher-a": [[("t1", "epoch 1\n")], []], "prune-launcher-b": []}
    logs[name].append([("t2", "epoch 2\n")])
    ended = second | {"status": launcher(0, restarts=1 if not first else 0)["status"]}
    cluster = FakeCluster(
        (RUNNING, [launcher()]),
        (RUNNING, [launcher(1)]),
        (RUNNING, [*first, second]),
        (SUCCEEDED, [*first, ended]),
        logs=logs,
    )
    said, shown, error = watch(cluster)
    assert error is None
    assert shown == ["epoch 1\n", "epoch 2\n"]
    assert len(said) == 1
    assert said[0].startswith("the launcher ended with exit code 1; where one of 3 retries is left, Kubernetes starts")


def test_who_comes_later_sees_the_current_try_only(watch):
    tries = [launcher(1), launcher(0, name="prune-launcher-b", number=2)]
    cluster = FakeCluster((SUCCEEDED, tries), logs={"prune-launcher-b": [[("t2", "epoch 2\n")]]})
    assert watch(cluster) == ([], ["epoch 2\n"], None)
    assert [name for name, _ in cluster.asked] == ["prune-launcher-b"]


def test_a_log_that_breaks_off_goes_on_where_it_was(watch):
    cluster = FakeCluster(
        (RUNNING, [launcher()]),
        (RUNNING, [launcher()]),
        (SUCCEEDED, [launcher(0)]),
        logs={"prune-launcher-a": [[("t1", "epoch 1\n"), "connection reset"], [("t2", "epoch 2\n")], []]},
    )
    said, shown, error = watch(cluster)
    assert (shown, error) == (["epoch 1\n", "epoch 2\n"], None)
    assert cluster.asked[1] == ("prune-launcher-a", "t1")
    assert said == ["the log broke off, trying again: connection reset"]


def test_pods_without_a_node_are_told_once(watch):
    waits = (job(("Created", "")), [unschedulable()])
    said, _, error = watch(FakeCluster(waits, waits, waits, (SUCCEEDED, [launcher(0)])))
    assert error is None
    assert said == [
        "waiting: no node takes pod prune-worker-0 (0/3 nodes are available: 3 Insufficient nvidia.com/gpu.)"
    ]


def test_an_image_that_is_not_there_ends_the_following(watch):
    waits = container_waiting(
        "ImagePullBackOff", 'Back-off pulling image "registry.example.com/trimflow:gpu-1"', init=True
    )
    _, _, error = watch(FakeCluster((job(("Created", "")), [waits])))
    assert isinstance(error, InputError)
    assert str(error).startswith(
        "the image of pod prune-worker-0 cannot be had: registry.example.com/trimflow:gpu-1 (Back-off pulling"
    )


def test_a_pull_that_failed_once_is_waited_for(watch):
    states = [(job(), [container_waiting("ErrImagePull", "rpc error: timeout")]), (SUCCEEDED, [launcher(0)])]
    assert watch(FakeCluster(*states)) == (["waiting: pod prune-worker-0: ErrImagePull (rpc error: timeout)"], [], None)


def test_a_volume_that_cannot_be_mounted_is_told_after_a_while(watch):
    waits = (job(), [container_waiting("ContainerCreating", init=True)])
    warning = "prune-worker-0: MountVolume.SetUp failed: hostPath type check failed: /srv/runs is not a directory"
    said, _, error = watch(FakeCluster(*[waits] * 20, (SUCCEEDED, [launcher(0)]), warnings=["older", warning]))
    assert error is None
    assert said == ["waiting for the job's pods: 0 of 1 run", f"waiting for the job's pods: 0 of 1 run ({warning})"]


@pytest.mark.parametrize("warnings", [(), KubectlError("forbidden")], ids=["none", "not allowed to see them"])
def test_without_any_pod_the_operator_is_asked_for(watch, warnings):
    said, _, _ = watch(FakeCluster(*[(job(), [])] * 20, (SUCCEEDED, [launcher(0)]), warnings=warnings))
    assert said[-1] == "waiting for the job's pods; does the MPI operator run in the cluster?"


def test_a_job_that_is_deleted_meanwhile_is_an_error(watch):
    _, _, error = watch(FakeCluster((RUNNING, []), (None, [])))
    assert isinstance(error, RunError)
    assert str(error) == "the job prune has been deleted"


def test_a_short_loss_of_the_cluster_is_survived(watch):
    lost = KubectlError("Unable to connect to the server: i/o timeout")
    said, _, error = watch(FakeCluster(lost, lost, (SUCCEEDED, [launcher(0)])))
    assert error is None
    assert said == ["kubectl failed, trying again: Unable to connect to the server: i/o timeout"]


def test_short_losses_do_not_add_up(watch, clock):
    lost = KubectlError("Unable to connect to the server: i/o timeout")
    _, _, error = watch(FakeCluster(*[*[lost] * 20, (RUNNING, [launcher()])] * 3, (SUCCEEDED, [launcher(0)])))
    assert error is None
    assert clock[0] > 180


def test_a_long_loss_of_the_cluster_ends_the_following(watch, clock):
    _, _, error = watch(FakeCluster(KubectlError("Unable to connect to the server: i/o timeout")))
    assert isinstance(error, RunError)
    assert str(error).startswith("the cluster cannot be reached")
    assert str(error).endswith("; the job itself may go on")
    assert 120 <= clock[0] < 130


def test_an_evicted_worker_is_not_yet_the_end():
    assert outcome(job(("Failed", "1/2 workers are evicted"), completed=False)) == ("", "")
    assert outcome(FAILED) == ("Failed", "BackoffLimitExceeded")
    assert outcome({"metadata": {}}) == ("", "")


def test_folders_that_cannot_be_made_are_told_with_what_mkdir_says():
    terminated = {"exitCode": 1, "message": "mkdir: cannot create directory '/volume/runs': Permission denied\n"}
    container = {
        "name": "folders",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        "lastState": {"terminated": terminated},
    }
    assert waiting([pod("prune-worker-0", "Pending", initContainerStatuses=[container])]).text == (
        "waiting: container folders of pod prune-worker-0 ended with exit code 1 "
        "(mkdir: cannot create directory '/volume/runs': Permission denied)"
    )


def test_a_worker_that_was_started_again_and_runs_is_not_waited_for():
    container = {"name": "worker", "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137}}}
    assert waiting([pod("prune-worker-0", containerStatuses=[container])]).text == (
        "waiting for the job's pods: 1 of 1 run"
    )
