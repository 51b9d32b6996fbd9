"""The training loop in two processes."""

import pytest

from tests.workers.two_processes import needs_horovod, run_together

pytestmark = needs_horovod


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the two ranks found: check -> [of rank 0, of rank 1]."""
    first, second = run_together("training", tmp_path_factory.mktemp("training"))
    return {name: [first[name], second[name]] for name in first}


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("lenet", 1e-5), ("resnet_with_synchronised_batch_norm", 1e-4), ("stock_batch_norm_synchronised", 1e-5)],
)
def test_two_workers_with_half_the_batch_follow_one_with_all_of_it(found, name, tolerance):
    first, second = found[name]
    assert first["losses_differ"] < tolerance
    assert first["weights_differ"] < tolerance
    assert first["weights_moved"] > 10 * tolerance, "they could have differed"
    assert first["hash"] == second["hash"]
    assert first["loss"] == second["loss"]
    assert (first["traces"], second["traces"]) == (1, 1)


def test_moving_statistics_are_averaged_over_the_workers(found):
    for from_mean, from_own in found["statistics_of_batch_norm"]:
        assert from_mean < 1e-6
        assert from_own > 1e-5, "the workers saw different images"


def test_an_evaluation_in_uneven_shards_is_exact(found):
    first, second = found["uneven_shards"]
    for (together, alone), (of_second, _) in zip(first, second, strict=True):
        assert together == of_second
        assert together["accuracy"] == alone["accuracy"]
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-6)


def test_masks_are_the_same_on_all_and_a_training_goes_on_from_the_first_s_checkpoint(found):
    (hashes, wrote, at, zeros, losses), (second_hashes, second_wrote, _, _, second_losses) = found[
        "masks_under_a_schedule"
    ]
    assert len({*hashes, *second_hashes}) == 1
    assert (wrote, second_wrote) == (True, False)
    assert at == 8
    assert zeros == pytest.approx(0.5, abs=0.01)
    assert losses == second_losses


def test_masks_that_differ_end_the_training_with_the_rank(found):
    for text in found["masks_that_differ"]:
        assert text.startswith("weights and masks before step 2 must be the same on all workers")
        assert "rank 1" in text
