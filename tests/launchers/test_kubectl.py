"""kubectl's complaints and times."""

import pytest

from launchers.kubectl import Kubectl, KubectlError, _nanoseconds
from utils.errors import InputError


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            'error: the server doesn\'t have a resource type "mpijobs"',
            "the cluster knows no MPIJob: the MPI operator v2beta1",
        ),
        ('no matches for kind "MPIJob" in version "kubeflow.org/v2beta1"', "the cluster knows no MPIJob"),
        ("Unable to connect to the server: dial tcp: lookup x: no such host", "the cluster cannot be reached"),
        ("The connection to the server localhost:8080 was refused - did you specify", "the cluster cannot be reached"),
        ('Error from server (Forbidden): mpijobs is forbidden: User "ann"', "the cluster does not allow this"),
        ("error: You must be logged in to the server (Unauthorized)", "the cluster does not allow this"),
        ('Error from server (NotFound): namespaces "x" not found', "--namespace must be one that the cluster has"),
        ('strict decoding error: unknown field "spec.launcherCreationPolicy"', "the cluster's MPI operator is too old"),
    ],
)
def test_a_complaint_is_explained_and_quoted(said, cause):
    explained = KubectlError(said).explained()
    assert explained.startswith(cause)
    assert explained.endswith(f"kubectl says: {said}")


def test_an_unknown_complaint_is_quoted():
    assert KubectlError("error: disk on fire").explained() == "kubectl says: error: disk on fire"


def test_without_the_program_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="the program kubectl is needed.*install it as on https://kubernetes.io"):
        Kubectl()


def test_times_are_compared_to_the_nanosecond():
    early, late = "2026-01-31T12:00:00.12Z", "2026-01-31T12:00:00.1200001Z"
    assert _nanoseconds(late) - _nanoseconds(early) == 100
    assert _nanoseconds("2026-01-31T13:00:00.12+01:00") == _nanoseconds(early)
    assert _nanoseconds("2026-01-31T12:00:01Z") - _nanoseconds("2026-01-31T12:00:00Z") == 10**9
    assert _nanoseconds("unable to retrieve container logs") == 0
