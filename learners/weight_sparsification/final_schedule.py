"""The dynamic schedule of the final training, in its iterations."""

from compressors.schedules import PolynomialSchedule
from learners.weight_sparsification.config import WeightSparseConfig
from utils.errors import InputError

LONGEST_MASK_UPDATE_INTERVAL = 500


def dynamic_schedule(options: WeightSparseConfig, total: int) -> PolynomialSchedule:
    """The schedule of a training of `total` iterations."""
    begin, end = _ramp(options, total)
    every = options.mask_update_interval or min(LONGEST_MASK_UPDATE_INTERVAL, max(1, (end - begin) // 20))
    return PolynomialSchedule(begin, end, every, options.schedule_exponent)


def check_schedule(options: WeightSparseConfig, total: int) -> None:
    """Raises InputError where a training of `total` iterations is too short for the schedule."""
    begin, end = _ramp(options, total)
    if begin >= end:
        raise InputError(
            "--ws_train_init dense needs a final training with a step between --ws_iter_ratio_beg and "
            f"--ws_iter_ratio_end of it. Received: one of {total} iterations, too little data or too few epochs"
        )
    schedule = dynamic_schedule(options, total)
    updates = [step for step in range(total) if schedule.is_update_step(step)]
    if not updates or updates[-1] < schedule.end_step:
        raise InputError(
            f"--ws_mask_update_step must leave a mask update between iteration {schedule.end_step} "
            f"(--ws_iter_ratio_end) and {total}, the last. Received: {schedule.update_every}"
        )


def _ramp(options: WeightSparseConfig, total: int) -> tuple[int, int]:
    """The iterations at which pruning begins and ends."""
    return round(options.ramp_begin * total), round(options.ramp_end * total)
