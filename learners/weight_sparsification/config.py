"""Flags of the weight-sparse learner."""

from dataclasses import dataclass

from utils.errors import InputError
from utils.flags import flag

PROTOCOLS = ("uniform", "heurist", "erk", "lamp", "global", "dp", "optimal")


@dataclass(frozen=True)
class WeightSparseConfig:
    """Weight sparsification (--learner weight-sparse)"""

    save_path: str = flag("", "the compressed model [<run_dir>/model.keras]", name="ws_save_path", affects_result=False)
    # No part of a run's identity: what is in the file is made from what the identity names, and is checked.
    paths: str = flag(
        "",
        "the pruning paths: taken from there if they are of this dense network, else built and kept there "
        "[<run_dir>/paths.npz]",
        name="ws_paths",
        affects_result=False,
    )
    prune_ratio: float = flag(
        0.75, "share of all prunable weights to remove", name="ws_prune_ratio", minimum=0, maximum=1
    )
    prune_ratio_protocol: str = flag(
        "optimal", "how the layers share it; optimal: the search", name="ws_prune_ratio_prtl", choices=PROTOCOLS
    )
    num_rollouts: int = flag(200, "roll-outs of the search", name="ws_nb_rlouts", minimum=1)
    min_rollouts: int = flag(
        20, "roll-outs that fill the replay buffer before the agent learns", name="ws_nb_rlouts_min", minimum=1
    )
    reward_type: str = flag(
        "single-obj",
        "single-obj: accuracy within the budget; multi-obj: accuracy * log(1 + sparsity)",
        name="ws_reward_type",
        choices=("single-obj", "multi-obj"),
    )
    regression_solver: str = flag(
        "closed-form",
        "a roll-out's layer-wise regression: pruning paths, or Adam steps",
        name="ws_rg_solver",
        choices=("closed-form", "sgd"),
    )
    path_score: str = flag(
        "input_norm",
        "which weights a pruning path removes: smallest |w| * input norm, or |w|",
        name="ws_path_score",
        choices=("input_norm", "magnitude"),
    )
    regression_learning_rate: float = flag(
        3e-2, "Adam's rate in layer-wise regression (sgd)", name="ws_lrn_rate_rg", above=0
    )
    regression_iterations: int = flag(
        20, "Adam steps a layer in layer-wise regression (sgd)", name="ws_nb_iters_rg", minimum=0
    )
    rollout_fine_tuning: str = flag(
        "finalists", "who is fine-tuned in the search", name="ws_rlout_ft", choices=("finalists", "every", "none")
    )
    fine_tuning_learning_rate: float = flag(
        3e-3, "Adam's peak rate in fine-tuning: warm-up, then cosine", name="ws_lrn_rate_ft", above=0
    )
    fine_tuning_iterations: int = flag(
        400, "fine-tuning steps: of each roll-out, or shared by the finalists", name="ws_nb_iters_ft", minimum=0
    )
    num_finalists: int = flag(
        3, "best distinct roll-outs that are re-solved progressively", name="ws_nb_finalists", minimum=1
    )
    reward_metric: str = flag(
        "",
        "what scores a roll-out; unset: acc_top1 below 20 classes, else acc_top5",
        name="ws_reward_metric",
        choices=("", "acc_top1", "acc_top5"),
    )
    gram_memory: float = flag(
        4.0,
        "gigabytes of the layers' Gram matrices; wider layers keep a sample of their inputs",
        above=0,
        name="ws_gram_memory",
    )
    evaluation_batches: int = flag(
        0, "validation batches that score a roll-out; 0: 25, or as many as have the images of 16 training batches",
        name="ws_nb_iters_feval", minimum=0,
    )  # fmt: skip
    schedule_exponent: float = flag(3.0, "exponent of the dynamic schedule", name="ws_prune_ratio_exp", above=0)
    ramp_begin: float = flag(
        0.1, "where pruning begins, as a share of training", name="ws_iter_ratio_beg", minimum=0, below=1
    )
    ramp_end: float = flag(
        0.5, "where pruning ends, as a share of training", name="ws_iter_ratio_end", above=0, below=1
    )
    mask_update_interval: int = flag(
        0, "iterations between mask updates; 0: 500, or 1/20 of a shorter ramp", name="ws_mask_update_step", minimum=0
    )
    train_init: str = flag(
        "path",
        "the final training starts dense under the dynamic schedule, or pruned from its path",
        name="ws_train_init",
        choices=("dense", "path"),
    )

    def check(self) -> None:
        """Raises InputError where two flags do not fit."""
        if not self.ramp_begin < self.ramp_end:
            raise InputError(
                "--ws_iter_ratio_beg must be below --ws_iter_ratio_end. "
                f"Received: {self.ramp_begin} and {self.ramp_end}"
            )
        if self.min_rollouts > self.num_rollouts:
            raise InputError(
                "--ws_nb_rlouts_min must be at most --ws_nb_rlouts. "
                f"Received: {self.min_rollouts} and {self.num_rollouts}"
            )
