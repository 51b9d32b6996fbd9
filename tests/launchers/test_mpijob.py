"""The MPIJob manifest: its content by hand, and its form by the operator's own schema where that file is at hand."""

import dataclasses
import os
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launchers import horovod, mpijob
from launchers.hosts import Host, parse_hostfile
from launchers.mpijob import Job, Volume
from utils.errors import InputError

ROOT = Path(__file__).parents[2]
CRD = "kubeflow.org_mpijobs.yaml"
RUNS = Volume("runs", "team/me")
JOB = Job(
    name="prune",
    image="registry.example.com:5000/team/trimflow:gpu-0123456789ab",
    command=("nets/resnet_at_cifar10_run.py", "--learner", "weight-sparse"),
    num_processes=16,
    num_slots=8,
    uses_gpus=True,
    runs=RUNS,
    data=Volume("", "/mnt/cifar10"),
    namespace="vision",
)


def change(**values) -> Job:
    return dataclasses.replace(JOB, **values)


def template(job: Job, role: str) -> dict:
    return mpijob.manifest(job)["spec"]["mpiReplicaSpecs"][role]["template"]["spec"]


def container(job: Job, role: str) -> dict:
    (only,) = template(job, role)["containers"]
    return only


def strict(schema: dict) -> dict:
    """An openAPIV3Schema as the API server takes it with strict validation: a field it does not know is an error."""
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        made.setdefault("additionalProperties", False)
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = strict(schema["items"])
    return made


@pytest.fixture(scope="module")
def validator():
    given_file = os.environ.get("TRIMFLOW_MPIJOB_CRD")
    places = [Path(given_file)] if given_file else [ROOT.parent / "shared/data" / CRD, ROOT / "shared/data" / CRD]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        pytest.skip(f"there is no {CRD} (the MPI operator's; TRIMFLOW_MPIJOB_CRD may name it)")
    with path.open() as file:
        crd = yaml.CSafeLoader(file).get_single_data()  # a large file: the loader in C
    (version,) = [version for version in crd["spec"]["versions"] if version["name"] == "v2beta1"]
    return jsonschema.Draft202012Validator(strict(version["schema"]["openAPIV3Schema"]))


@pytest.mark.parametrize(
    "job",
    [
        JOB,
        change(namespace="", data=None),
        change(num_processes=1, num_slots=1, runs=Volume("", "/srv/runs"), data=Volume("data", "")),
        change(uses_gpus=False, num_processes=6, num_slots=2, num_retries=0),
        change(data=Volume("data", "images/cifar10"), command=("nets/a_run.py", "--x=$(A) $$", "", "1e3", "ü\n\t")),
        change(num_processes=256, image="trimflow@sha256:" + "0" * 64),
    ],
    ids=["gpus", "no data", "one process", "cpus", "odd flags", "256 processes"],
)
def test_manifest_follows_the_operators_schema(validator, job):
    manifest = yaml.safe_load(mpijob.to_yaml(mpijob.manifest(job)))
    assert [error.message for error in validator.iter_errors(manifest)] == []


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        (("spec", "slotsPerWorker"), "8"),
        (("spec", "mpiImplementation"), "Gloo"),
        (("spec", "runPolicy", "cleanPods"), "Running"),
        (("spec", "mpiReplicaSpecs", "Worker", "template", "spec", "containers", 0, "resource"), {}),
        (("spec", "mpiReplicaSpecs", "Worker", "template", "spec", "volumes", 0, "hostPath"), {"type": "Directory"}),
    ],
)
def test_the_schema_finds_mistakes(validator, where, wrong):
    manifest = mpijob.manifest(JOB)
    part = manifest
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = wrong
    assert len(list(validator.iter_errors(manifest))) == 1


def test_launcher_runs_the_command_over_the_operators_hostfile():
    launcher = container(JOB, "Launcher")
    assert launcher["command"] == ["/opt/trimflow/.venv/bin/python", "-m", "launchers.horovod"]
    assert launcher["args"] == [
        "-n=16", "--hostfile=/etc/mpi/hostfile", "--wait_for_hosts=300", "--",
        "nets/resnet_at_cifar10_run.py", "--learner", "weight-sparse",
    ]  # fmt: skip
    assert launcher["workingDir"] == "/opt/trimflow"
    assert "resources" not in launcher, "its pod must not wait for a GPU"


def test_launcher_program_understands_arguments_and_hostfile(tmp_path):
    options, words = horovod._read_options(container(JOB, "Launcher")["args"])
    assert (options.number, options.hostfile, options.wait_for_hosts) == (16, "/etc/mpi/hostfile", 300)
    assert words == list(JOB.command)
    hostfile = tmp_path / "hostfile"  # as the operator writes it
    names = [f"prune-worker-{index}.prune-worker.vision.svc" for index in range(2)]
    hostfile.write_text("".join(f"{name} slots=8\n" for name in names))
    assert parse_hostfile(hostfile) == tuple(Host(name, 8) for name in names)


def test_launcher_comes_after_its_workers_and_its_retries_are_new_pods_that_keep_their_logs():
    spec = mpijob.manifest(change(num_retries=5))["spec"]
    assert spec["launcherCreationPolicy"] == "WaitForWorkersReady"
    assert spec["runPolicy"] == {"cleanPodPolicy": "Running", "backoffLimit": 5}
    launcher, worker = (spec["mpiReplicaSpecs"][role] for role in ("Launcher", "Worker"))
    assert (launcher["replicas"], launcher["restartPolicy"]) == (1, "Never")
    assert (worker["replicas"], worker["restartPolicy"]) == (2, "OnFailure")
    assert (spec["slotsPerWorker"], spec["mpiImplementation"]) == (8, "OpenMPI")


def test_workers_are_an_ssh_server_that_is_ready_when_it_answers():
    worker = container(JOB, "Worker")
    assert worker["command"] + worker["args"] == ["/usr/sbin/sshd", "-De", "-f", "/home/trimflow/.sshd_config"]
    assert worker["readinessProbe"]["tcpSocket"] == {"port": 2222}
    assert mpijob.manifest(JOB)["spec"]["sshAuthMountPath"] == "/home/trimflow/.ssh"


def test_workers_have_a_gpu_for_each_process_or_else_a_cpu():
    assert container(JOB, "Worker")["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    assert container(change(num_processes=3, num_slots=3), "Worker")["resources"] == {"limits": {"nvidia.com/gpu": 3}}
    assert container(change(uses_gpus=False), "Worker")["resources"] == {"requests": {"cpu": 8}}


def test_workers_share_memory_beyond_a_pods_default():
    mounts = {mount["mountPath"]: mount["name"] for mount in container(JOB, "Worker")["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in template(JOB, "Worker")["volumes"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory"}


@pytest.mark.parametrize("role", ["Launcher", "Worker"])
def test_no_pod_runs_as_root_or_may_become_it(role):
    spec = template(JOB, role)
    security = spec["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 1000, 1000)
    for each in [*spec["initContainers"], *spec["containers"]]:
        assert each["image"] == JOB.image
        assert each["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize("role", ["Launcher", "Worker"])
def test_data_is_read_only_and_what_runs_leave_is_kept(role):
    mounts = {mount["mountPath"]: mount for mount in container(JOB, role)["volumeMounts"]}
    assert mounts["/data"] == {"name": "data", "mountPath": "/data", "readOnly": True}
    for name in ("runs", "models", "logs"):
        mount = mounts[f"/opt/trimflow/{name}"]
        assert mount == {"name": "runs", "mountPath": f"/opt/trimflow/{name}", "subPath": f"team/me/{name}"}
    volumes = {volume.pop("name"): volume for volume in template(JOB, role)["volumes"]}
    assert volumes["data"] == {"hostPath": {"path": "/mnt/cifar10", "type": "Directory"}}
    assert volumes["runs"] == {"persistentVolumeClaim": {"claimName": "runs"}}
    (first,) = template(JOB, role)["initContainers"]
    folders = ["/volume/team/me/runs", "/volume/team/me/models", "/volume/team/me/logs"]
    assert first["command"] == ["mkdir", "-p", *folders]
    assert first["volumeMounts"] == [{"name": "runs", "mountPath": "/volume"}]


def test_volumes_may_be_the_other_way_round():
    job = change(runs=Volume("", "/srv/runs"), data=Volume("data", "images"))
    spec = template(job, "Launcher")
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["/data"] == {"name": "data", "mountPath": "/data", "readOnly": True, "subPath": "images"}
    assert mounts["/opt/trimflow/runs"]["subPath"] == "runs"
    assert spec["initContainers"][0]["command"][2:] == ["/volume/runs", "/volume/models", "/volume/logs"]
    sources = {volume["name"]: volume for volume in spec["volumes"]}
    assert sources["runs"]["hostPath"] == {"path": "/srv/runs", "type": "Directory"}
    assert sources["data"]["persistentVolumeClaim"] == {"claimName": "data"}
    assert "/data" not in {mount["mountPath"] for mount in container(change(data=None), "Worker")["volumeMounts"]}


def test_namespace_is_left_to_kubectl_unless_given():
    assert mpijob.manifest(JOB)["metadata"]["namespace"] == "vision"
    assert "namespace" not in mpijob.manifest(change(namespace=""))["metadata"]


def test_equal_jobs_have_equal_digests_and_others_have_not():
    def digest(job: Job) -> str:
        return mpijob.manifest(job)["metadata"]["annotations"]["trimflow-manifest-sha256"]

    assert digest(JOB) == digest(change())
    others = [change(num_processes=8), change(image="x:y"), change(command=("a",)), change(runs=Volume("r", ""))]
    assert len({digest(job) for job in [JOB, *others]}) == 5


def expanded(text: str, variables: dict[str, str]) -> str:
    """What Kubernetes makes of an argument: `$(NAME)` is the variable if there is one, `$$` is `$`."""

    def replace(match: re.Match) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replace, text)


TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("$()AB\"'\\:#-\n")), max_size=20)


@settings(max_examples=30)
@given(flags=st.lists(TEXT, max_size=4))
def test_any_flags_reach_the_launcher_unchanged(flags):
    manifest = yaml.safe_load(mpijob.to_yaml(mpijob.manifest(change(command=("nets/a_run.py", *flags)))))
    (launcher,) = manifest["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    handed = [expanded(argument, {"A": "hacked", "B": "hacked"}) for argument in launcher["args"]]
    assert handed[4:] == ["nets/a_run.py", *flags]


def test_flags_that_are_no_text_are_refused():
    with pytest.raises(InputError, match=r"must be UTF-8 text\. Received: '--x=\\udcff'"):
        mpijob.manifest(change(command=("nets/a_run.py", "--x=\udcff")))


@pytest.mark.parametrize(
    "text", ["1e3", "0o17", "0x1F", "12:30", "y", "n", "no", "~", "null", "1_000", ".inf", "-", "="]
)
def test_what_any_reader_of_yaml_could_take_for_something_else_is_quoted(text):
    """PyYAML reads YAML 1.1 with habits of its own: it leaves 1e3 bare, which kubectl would read as a number."""
    assert re.fullmatch(r'name: ("[^"]*"|\'[^\']*\')\n', mpijob.to_yaml({"name": text}))


@pytest.mark.parametrize(
    ("value", "volume"),
    [
        ("pvc:data", Volume("data", "")),
        ("pvc:data/", Volume("data", "")),
        ("pvc:my.data-1/a b/./c//", Volume("my.data-1", "a b/c")),
        ("/mnt/data/", Volume("", "/mnt/data")),
        ("//mnt//data", Volume("", "/mnt/data")),
    ],
)
def test_volumes_are_claims_or_folders_of_the_nodes(value, volume):
    assert mpijob.parse_volume("data_dir_seven_runs", value) == volume


@pytest.mark.parametrize(
    "value", ["data", "~/data", "pvc:", "pvc:/a", "pvc:A", "pvc:a_b", "pvc:a/../b", "/a/..", "PVC:a"]
)
def test_other_volumes_are_refused(value):
    with pytest.raises(InputError, match=f"path.conf: data_dir_seven_runs must be pvc:CLAIM.*Received: '{value}'"):
        mpijob.parse_volume("data_dir_seven_runs", value)


@pytest.mark.parametrize(
    ("num_processes", "per_node", "slots"), [(1, 8, 1), (5, 8, 5), (8, 8, 8), (16, 8, 8), (6, 2, 2), (3, 1, 1)]
)
def test_processes_fill_their_nodes_evenly(num_processes, per_node, slots):
    assert mpijob.slots_per_worker(num_processes, per_node) == slots


def test_processes_that_do_not_fill_their_nodes_are_refused():
    with pytest.raises(InputError, match="-n above 8 must be a multiple of it.*Received: 12"):
        mpijob.slots_per_worker(12, 8)


@pytest.mark.parametrize("name", ["a", "prune-2", "a" * 53])
def test_names_that_kubernetes_takes(name):
    mpijob.check_job_name(name, num_workers=10)


@pytest.mark.parametrize("name", ["", "A", "a_b", "a.b", "-a", "a-", "2a", "ä", "a\n", "a" * 55])
def test_names_that_kubernetes_refuses(name):
    with pytest.raises(InputError, match="-j must be a name of at most 54 letters a-z, digits and hyphens"):
        mpijob.check_job_name(name, num_workers=10)


def test_names_leave_room_for_what_the_operator_adds():
    for workers, longest in [(1, 54), (10, 54), (11, 53), (101, 52)]:
        name = "a" * mpijob.longest_job_name(workers)
        assert len(name) == longest
        assert max(len(f"{name}-worker-{workers - 1}"), len(f"{name}-launcher")) == 63


@given(stem=st.text(max_size=80), flags=st.lists(TEXT, max_size=3), workers=st.integers(1, 2000))
def test_a_name_of_our_own_making_is_always_taken(stem, flags, workers):
    command = (f"nets/{stem}_run.py", *flags)
    mpijob.check_job_name(mpijob.default_job_name(command, "weight-sparse", workers), workers)


def test_the_same_command_has_the_same_name():
    name = mpijob.default_job_name(JOB.command, "weight-sparse", 2)
    assert re.fullmatch("resnet-at-cifar10-weight-sparse-[0-9a-f]{8}", name)
    assert mpijob.default_job_name(JOB.command, "weight-sparse", 4) == name, "another number of workers resumes it"
    assert mpijob.default_job_name((*JOB.command, "--seed=1"), "weight-sparse", 2) != name
    assert mpijob.default_job_name(("a_run.py", "bc"), "x", 1) != mpijob.default_job_name(
        ("a_run.py", "b", "c"), "x", 1
    )


@pytest.mark.parametrize(
    "image",
    [
        "trimflow",
        "trimflow:gpu-0123456789ab-dirty",
        "localhost:5000/trimflow",
        "registry.example.com/team/my__trimflow.x:Gpu_1",
        "team/trimflow:1@sha256:" + "0a" * 32,
    ],
)
def test_images_that_can_be(image):
    mpijob.check_image(image)


@pytest.mark.parametrize(
    "image", ["", "Trimflow", "a b", "a:", ":b", "a:b:c", "https://a/b", "a@sha256:12", "-a", "a\n"]
)
def test_images_that_cannot_be(image):
    with pytest.raises(InputError, match="--image must be an image such as"):
        mpijob.check_image(image)


@pytest.mark.parametrize("namespace", ["", "A", "a.b", "-a", "a" * 64, "a b"])
def test_namespaces_that_cannot_be(namespace):
    mpijob.check_namespace("1team-" + "a" * 57)
    with pytest.raises(InputError, match="--namespace must be at most 63 letters"):
        mpijob.check_namespace(namespace)
