import pytest

from learners.weight_sparsification.config import WeightSparseConfig
from utils.errors import InputError


def test_the_defaults_fit():
    WeightSparseConfig().check()


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        (dict(ramp_begin=0.5, ramp_end=0.5), ("--ws_iter_ratio_beg must be below --ws_iter_ratio_end", "0.5 and 0.5")),
        (dict(ramp_begin=0.6, ramp_end=0.2), ("--ws_iter_ratio_beg must be below --ws_iter_ratio_end", "0.6 and 0.2")),
        (dict(num_rollouts=9, min_rollouts=10), ("--ws_nb_rlouts_min must be at most --ws_nb_rlouts", "10 and 9")),
    ],
)
def test_flags_that_do_not_fit_are_named_with_their_values(values, parts):
    with pytest.raises(InputError) as error:
        WeightSparseConfig(**values).check()
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        dict(ramp_begin=0.0, ramp_end=0.01),
        dict(num_rollouts=10, min_rollouts=10),
    ],
)
def test_flags_that_just_fit_do(values):
    WeightSparseConfig(**values).check()
