"""Flags of the lottery-ticket learner."""

from dataclasses import dataclass

from utils.flags import flag


@dataclass(frozen=True)
class LotteryTicketConfig:
    """Lottery ticket (--learner lottery-ticket)"""

    prune_ratio: float = flag(
        0.8, "share of each pruned layer's weights that the last round has removed", name="lt_prune_ratio",
        above=0, below=1,
    )  # fmt: skip
    num_rounds: int = flag(
        5, "rounds of pruning and training after the dense training", name="lt_prune_iterations", minimum=1
    )
    rewind_epoch: int = flag(
        0, "epoch of the dense training whose weights each round begins with; 0: the initial ones",
        name="lt_rewind_epoch", minimum=0,
    )  # fmt: skip
