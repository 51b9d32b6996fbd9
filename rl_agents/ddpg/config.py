"""Options of the DDPG agent."""

from dataclasses import dataclass

from utils.flags import flag


@dataclass(frozen=True)
class DdpgConfig:
    """DDPG agent"""

    actor_depth: int = flag(2, "hidden layers of the actor", name="ddpg_actor_depth", minimum=1)
    actor_width: int = flag(64, "units of each hidden layer of the actor", name="ddpg_actor_width", minimum=1)
    critic_depth: int = flag(2, "hidden layers of the critic", name="ddpg_critic_depth", minimum=1)
    critic_width: int = flag(64, "units of each hidden layer of the critic", name="ddpg_critic_width", minimum=1)
    target_update_rate: float = flag(
        0.01, "share of the networks taken over by their targets at each step", name="ddpg_tau", above=0, maximum=1
    )
    discount: float = flag(0.9, "discount of future rewards", name="ddpg_gamma", minimum=0, maximum=1)
    learning_rate: float = flag(1e-3, "Adam's learning rate, actor and critic", name="ddpg_lrn_rate", above=0)
    weight_decay: float = flag(
        0.0, "L2 loss on the actor's and the critic's parameters", name="ddpg_loss_w_dcy", minimum=0
    )
    record_every: int = flag(1, "every how many transitions one goes to the replay", name="ddpg_record_step", minimum=1)
    batch_size: int = flag(64, "transitions in a gradient step", name="ddpg_batch_size", minimum=1)
    use_baseline: bool = flag(True, "subtract a moving average from the rewards", name="ddpg_enbl_bsln_func")
    baseline_decay: float = flag(
        0.95, "decay of that moving average in a roll-out", name="ddpg_bsln_decy_rate", minimum=0, below=1
    )
    noise_type: str = flag("action", "what exploration disturbs", name="ddpg_noise_type", choices=("action", "param"))
    noise_protocol: str = flag(
        "tdecy",
        "noise scale: follows the distance between actions, or decays with time",
        name="ddpg_noise_prtl",
        choices=("adapt", "tdecy"),
    )
    noise_initial: float = flag(0.1, "standard deviation at the start", name="ddpg_noise_std_init", above=0)
    noise_target_distance: float = flag(
        1e-2, "adapt: distance aimed at between disturbed and plain actions", name="ddpg_noise_dst_finl", above=0
    )
    noise_adapt_rate: float = flag(
        1.03, "adapt: factor of one change of the scale", name="ddpg_noise_adpt_rat", above=1
    )
    noise_final: float = flag(
        0.02,
        "tdecy: standard deviation after as many changes as there are roll-outs",
        name="ddpg_noise_std_finl",
        above=0,
    )
