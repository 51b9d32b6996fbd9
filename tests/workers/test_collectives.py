"""utils/workers.py in two processes."""

import pytest

from tests.workers.two_processes import needs_horovod, run_together

pytestmark = needs_horovod


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the two ranks found: check -> [of rank 0, of rank 1]."""
    first, second = run_together("collectives", tmp_path_factory.mktemp("collectives"))
    return {name: [first[name], second[name]] for name in first}


def test_each_worker_knows_its_place(found):
    assert found["place"] == [[0, 2, 0, True], [1, 2, 1, False]]


def test_a_broadcast_gives_all_the_root_s_value_of_any_type(found):
    assert found["broadcasts"] == [[[0.0, 1.0, 2.0], "bfloat16", 7, "ä", None, [1] * 5]] * 2


def test_gathered_values_come_in_the_order_of_the_ranks(found):
    assert found["gathers_values_of_unequal_length"] == [[["rank 0"], ["rank 1"] * 4]] * 2


def test_means_and_sums_keep_order_and_types(found):
    expected = [[1.5, 3.0], 3.5, [1, 20], 1.0, "float32", "float64", "int64", "float32"]
    assert found["means_and_sums_of_several_types"] == [expected] * 2
    assert found["nothing_to_reduce"] == [[[], []]] * 2


def test_the_gradient_of_a_mean_is_that_of_the_mean_loss(found):
    # y = (1 + 2) / 2; the losses y^2 and 2 y^2 have derivatives 2y = 3 and 4y = 6 by y, the mean of which is 4.5.
    assert found["gradient_of_a_mean"] == [[1.5, 4.5]] * 2


def test_a_mistake_on_the_first_is_raised_on_all(found):
    expected = [["returned", 42], ["InputError", "there is no such file"], ["RunError", "the disk is full"]]
    assert found["what_the_first_says"] == [expected] * 2


def test_a_mistake_on_one_is_raised_on_all_with_its_rank_and_one_on_all_as_it_is(found):
    for rank, (fine, one, every) in enumerate(found["what_all_say"]):
        assert fine == ["returned", rank]
        assert one[0] == "InputError"
        assert one[1].startswith("rank 1 on ")
        assert one[1].endswith(": no data here")
        assert every == ["InputError", "the flag is wrong"]


def test_variables_of_any_type_take_the_first_s_values(found):
    assert found["variables_of_the_first"] == [[[5.0, 5.0], [5, 5], True]] * 2


def test_a_difference_names_the_rank_that_has_it(found):
    for same, versions, masks, bits in found["differences"]:
        assert same is True
        assert versions.startswith("version 1 on rank 1 (")
        assert "version 0 on rank 0 (" in versions
        assert masks == ["returned", None]
        assert bits[0] == "RunError"
        assert bits[1].startswith("the masks must be the same on all workers")
        assert "on rank 1" in bits[1]


def test_a_fast_worker_waits_for_a_slow_one(found):
    assert min(found["waits_for_the_slow_one"]) >= 1.4


def test_a_worker_that_runs_but_stays_away_is_given_up_after_the_timeout(tmp_path):
    """Of 4 s; Horovod looks every 2 s, and counts anew where it had remembered the operation."""
    first, second = run_together("waiting", tmp_path)
    for found in (first, second):
        assert found["told"].startswith("another worker ended or did not answer; --worker_timeout is 4 s")
    assert 4 <= first["seconds"] < 15
