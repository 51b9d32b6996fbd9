"""How many members run at a time, and what each gets of the machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.weight_sparsification.sweep_machine import (
    Machine,
    available_memory,
    bytes_of_a_member,
    environment_of,
    idle_gpus,
    places_for,
    this_machine,
    threads_of,
)

GB = 10**9


@pytest.mark.parametrize(
    ("members", "machine", "need", "asked", "count"),
    [
        (4, Machine(2, 100 * GB), GB, 0, 2),
        (4, Machine(16, 100 * GB), GB, 0, 4),
        (4, Machine(16, 3 * GB), GB, 0, 2),  # nine tenths of 3 GB hold two
        (4, Machine(16, GB // 2), GB, 0, 1),
        (4, Machine(2, 100 * GB), GB, 3, 3),
        (2, Machine(8, 100 * GB), GB, 5, 2),
        (4, Machine(16, 100 * GB, ("1",)), GB, 0, 1),
        (4, Machine(16, 100 * GB, ("0", "2", "3")), GB, 0, 3),
    ],
)
def test_as_many_at_a_time_as_there_are_cores_or_gpus_and_memory_for(members, machine, need, asked, count):
    assert places_for(members, machine, need, asked).count == count


def test_it_is_said_when_memory_decides():
    assert places_for(4, Machine(4, 3 * GB), GB).reason == "3.0 GB of memory are free, a member takes about 1.0"
    assert places_for(4, Machine(4, 30 * GB), GB).reason == "4 cores"
    assert places_for(4, Machine(4, 30 * GB, ("7",)), GB).reason == "1 idle GPU"


def test_a_member_takes_more_than_the_dense_training_and_never_less_than_tensorflow():
    assert bytes_of_a_member(2 * 2**30, 10) == 3 * 2**30 + 10
    assert bytes_of_a_member(0, 0) == 1.5 * 2**30


@pytest.mark.parametrize(
    ("jobs", "places", "cores", "threads"),
    [
        (4, 2, 2, [1, 1, 1, 1]),
        (3, 2, 2, [1, 1, 2]),  # the last one runs alone
        (5, 4, 4, [1, 1, 1, 1, 4]),
        (4, 4, 16, [4, 4, 4, 4]),
        (4, 3, 3, [1, 1, 1, 3]),
        (1, 1, 8, [8]),
        (2, 8, 4, [2, 2]),
        (4, 4, 2, [1, 1, 1, 1]),
    ],
)
def test_those_of_a_round_share_the_cores(jobs, places, cores, threads):
    assert [threads_of(index, jobs, places, cores) for index in range(jobs)] == threads


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 64))
def test_a_round_never_has_more_threads_than_cores_unless_each_has_one(jobs, places, cores):
    for first in range(0, jobs, places):
        threads = [threads_of(index, jobs, places, cores) for index in range(first, min(first + places, jobs))]
        assert sum(threads) <= max(cores, len(threads))


def test_the_environment_says_the_threads_unless_it_says_them_already():
    variables = environment_of(0, 0, 4, 2, Machine(8, GB), {"OMP_NUM_THREADS": "3", "HOME": "/h"})
    assert variables == {
        "TF_NUM_INTRAOP_THREADS": "4",
        "TF_NUM_INTEROP_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
        "OMP_NUM_THREADS": "3",
        "HOME": "/h",
    }


def test_with_one_thread_two_operations_may_still_be_begun():
    variables = environment_of(0, 0, 4, 2, Machine(2, GB), {})
    assert (variables["TF_NUM_INTRAOP_THREADS"], variables["TF_NUM_INTEROP_THREADS"]) == ("1", "2")


def test_each_place_has_a_gpu_of_its_own():
    machine = Machine(8, GB, ("5", "2"))
    found = [environment_of(index, index % 2, 4, 2, machine, {}) for index in range(4)]
    assert [variables["CUDA_VISIBLE_DEVICES"] for variables in found] == ["5", "2", "5", "2"]
    assert all(variables["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID" for variables in found)
    assert not any("TF_FORCE_GPU_ALLOW_GROWTH" in variables for variables in found)


def test_members_that_share_a_gpu_do_not_each_take_all_of_it():
    variables = environment_of(2, 2, 3, 3, Machine(8, GB, ("5", "2")), {})
    assert (variables["CUDA_VISIBLE_DEVICES"], variables["TF_FORCE_GPU_ALLOW_GROWTH"]) == ("5", "true")


@pytest.mark.parametrize(
    ("value", "gpus"),
    [("", ()), ("-1", ()), ("3", ("3",)), ("0, 2", ("0", "2")), ("GPU-1a,GPU-2b", ("GPU-1a", "GPU-2b"))],
)
def test_the_user_s_choice_of_gpus_is_kept(value, gpus):
    assert this_machine({"CUDA_VISIBLE_DEVICES": value}).gpus == gpus


def test_idle_is_a_gpu_up_to_a_tenth_of_its_memory_and_time():
    table = "0, 8150, 81500, 10\n1, 8151, 81500, 0\n2, 0, 81500, 11\n3, [N/A], [N/A], [N/A]\n4, 1, 81500, 0\nno table\n"
    assert idle_gpus(table) == ("0", "3", "4")


def _files(root, meminfo_kb, **cgroup):
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {meminfo_kb} kB\n")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    for name, text in cgroup.items():
        (root / "sys/fs/cgroup" / f"memory.{name}").write_text(text)


def test_without_a_limit_the_machine_s_memory_counts(tmp_path):
    _files(tmp_path, 2000, max="max\n", current="77")
    assert available_memory(tmp_path) == 2000 * 1024


def test_a_container_s_limit_counts_less_what_is_used_but_for_files(tmp_path):
    _files(tmp_path, 2000, max="1000000\n", current="400000\n", stat="anon 5\ninactive_file 100000\n")
    assert available_memory(tmp_path) == 1_000_000 - 400_000 + 100_000
