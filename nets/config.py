"""Flags of the network and its training recipe."""

import re
from dataclasses import dataclass, field

from datasets.config import DataConfig, OwnDataConfig
from utils.flags import flag

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")  # module:function, in place of a file


@dataclass(frozen=True)
class NetworkConfig:
    """Network"""

    resnet_size: int = flag(
        20, "layers of the ResNet: 20, 32, 44, 56 or 110; at ILSVRC-12 18 (its default), 34, 50, 101 or 152"
    )
    mobilenet_version: int = flag(1, "version of MobileNet, 1 or 2", minimum=1, maximum=2)
    mobilenet_depth_mult: float = flag(1.0, "factor of MobileNet's channels", minimum=0.1, maximum=2)
    num_classes: int = flag(
        0, "classes of ILSVRC-12's records, which have labels from 1; 0: 1,000", name="nb_classes", minimum=0
    )
    keras_weights: str = flag(
        "",
        "the dense network of ResNet-50 and MobileNet: a weights file of keras.applications, or imagenet (fetched)",
    )
    keras_weights_body_only: bool = flag(
        False, "take all but the classifier from --keras_weights, and train the dense network from there"
    )


@dataclass(frozen=True)
class TrainingConfig:
    """Training"""

    epochs_ratio: float = flag(1.0, "training length, as a share of the recipe's", name="nb_epochs_rat", above=0)
    initial_learning_rate: float = flag(
        0.1,
        "learning rate at --batch_size_norm; of own networks 0.001, with --own_optimizer sgd 0.01",
        name="lrn_rate_init",
        minimum=0,
    )
    reference_batch_size: int = flag(
        128, "the batch size --lrn_rate_init is meant for; of own networks 32", name="batch_size_norm", minimum=1
    )
    momentum: float = flag(0.9, "momentum of SGD", minimum=0, below=1)
    weight_decay: float = flag(
        2e-4, "L2 weight decay of kernels and biases; of own networks 0", name="loss_w_dcy", minimum=0
    )
    label_smoothing: float = flag(0.0, "share of the label that all classes get alike", minimum=0, below=1)
    mixed_precision: bool = flag(
        False, "compute in 16 bits where that loses nothing, and keep weights in 32 (GPUs)", name="enbl_amp"
    )
    mixed_precision_type: str = flag(
        "bfloat16",
        "of --enbl_amp; float16 scales the loss",
        name="amp_type",
        choices=("bfloat16", "float16"),
    )
    xla: bool = flag(False, "compile training steps with XLA; slower on a CPU", name="enbl_xla")
    sync_batch_norm: bool = flag(
        False, "batch norm by the batches of all workers together, not of each", name="enbl_sync_bn"
    )


@dataclass(frozen=True)
class OwnModelConfig:
    """Own network (nets/own_model_run.py)"""

    source: str = flag("", "a .keras file, or module:function that returns a Keras model", name="own_model")
    task: str = flag(
        "classification", "what the network does", name="own_task", choices=("classification", "regression")
    )
    unsafe: bool = flag(False, "load a .keras file that carries Python code (Lambda layers)", name="own_unsafe")
    train_dense: bool = flag(
        False, "the network is not trained yet: train it before it is compressed", name="own_train_dense"
    )
    num_epochs: float = flag(10.0, "length of a full training in epochs", name="own_epochs", above=0)
    optimizer: str = flag("adam", "of every training", name="own_optimizer", choices=("adam", "sgd"))


@dataclass(frozen=True)
class NetConfig:
    """All that a ModelHelper needs."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    own_model: OwnModelConfig = field(default_factory=OwnModelConfig)
    own_data: OwnDataConfig = field(default_factory=OwnDataConfig)
    seed: int = 0
    quiet: bool = False
