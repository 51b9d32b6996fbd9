"""Flags of a run that do not go together, whatever the learner; neither network nor data is looked at."""

from learners.config import RunConfig
from nets.model_helper import ModelHelper
from utils.errors import InputError


def check_flags(config: RunConfig, helper: ModelHelper, num_workers: int) -> None:
    """Raises InputError for flags that do not go with the network or with each other."""
    _check_given_network(config, helper)
    training = config.net.training
    if training.mixed_precision and config.net.own_model.source:
        raise InputError(
            "--enbl_amp must be left out with --own_model, whose layers say by their dtype in what they compute. "
            "Received: both"
        )
    if training.xla and training.sync_batch_norm and num_workers > 1:
        raise InputError(
            "--enbl_xla must be left out with --enbl_sync_bn: XLA compiles no exchange between workers. Received: both"
        )


def _check_given_network(config: RunConfig, helper: ModelHelper) -> None:
    """Raises InputError for flags of the dense network where the user's own comes with its trained weights."""
    options = config.run
    useless = {
        "--save_path": options.save_path,
        "--model_http_url": options.model_http_url,
        "--noenbl_warm_start": not options.warm_start,
    }
    given = useless if helper.has_trained_weights else {}
    for name in (name for name, value in given.items() if value):
        raise InputError(
            f"{name} must be left out: the dense network is {helper.weights_source}, "
            f"which is trained already. Received: {given[name]}"
        )
