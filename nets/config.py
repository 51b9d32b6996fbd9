"""Flags of the network and its training recipe."""

from dataclasses import dataclass, field

from datasets.config import DataConfig
from utils.flags import flag


@dataclass(frozen=True)
class NetworkConfig:
    """Network"""

    resnet_size: int = flag(20, "layers of the ResNet: 20, 32, 44, 56 or 110")


@dataclass(frozen=True)
class TrainingConfig:
    """Training"""

    epochs_ratio: float = flag(1.0, "training length, as a share of the recipe's", name="nb_epochs_rat", above=0)
    initial_learning_rate: float = flag(0.1, "learning rate at --batch_size_norm", name="lrn_rate_init", minimum=0)
    reference_batch_size: int = flag(
        128, "the batch size --lrn_rate_init is meant for", name="batch_size_norm", minimum=1
    )
    momentum: float = flag(0.9, "momentum of SGD", minimum=0, below=1)
    weight_decay: float = flag(2e-4, "L2 weight decay of kernels and biases", name="loss_w_dcy", minimum=0)


@dataclass(frozen=True)
class NetConfig:
    """All that a ModelHelper needs."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0
