"""A process of its own that looks at the members of a sweep before any work: can this network reach their ratios?

Its arguments are the members' command lines, one JSON list of words each. It prints what is known of the network then;
the sweep itself loads no TensorFlow.
"""

import json
import math
import os
import sys
from typing import Any

from commands import command_line
from commands.start import import_tensorflow, quick_imports
from utils.errors import InputError, RunError
from utils.printing import printable

FACTS = "facts: "  # begins the line that the sweep reads
_BYTES = 4
_PATH_BYTES = 48  # of a weight: its values at all levels that are kept, its place in the order of removal


def facts_of(command_lines: list[list[str]]) -> dict[str, Any]:
    """Checks the runs of these `[net script, flags ...]`, which share network and data, as they do at their start.

    Returns:
        `title` of network and data; `has_trained_weights`, whether the net script brings a trained network;
        `state_bytes` that Gram matrices and paths take in memory.

    Raises:
        InputError: one of them cannot be.
    """
    from learners.weight_sparsification.learner import WeightSparseLearner
    from utils.run_dir import RunDir

    helper = None
    for words in command_lines:
        command = command_line.read_command_line(words)
        config, helper_class = command_line.with_network(command)
        helper = helper or helper_class(config.net)
        with helper.telling_of_bad_data():
            learner = WeightSparseLearner(config, helper, RunDir(config.run.run_dir))
            learner.check_flags()
            learner.check()
    assert helper is not None, "a sweep has members"
    return {
        "title": f"{helper.model_name} on {helper.dataset.title}",
        "has_trained_weights": bool(helper.has_trained_weights),
        "state_bytes": _state_bytes(learner),
    }


def _state_bytes(learner: Any) -> int:
    """Matrices and paths as arrays and as TensorFlow's constants."""
    limit = learner.config.weight_sparse.gram_memory * 1e9
    grams = sum(_BYTES * math.prod(layer.shape[:-1]) ** 2 for layer in learner.layers)
    paths = sum(_PATH_BYTES * layer.size for layer in learner.layers)
    return round(2 * (min(grams, limit) + paths))


def main(arguments: list[str]) -> int:
    """The exit code, as main.py's."""
    command_lines = [json.loads(argument) for argument in arguments]
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # TensorFlow would take the whole GPU
    try:
        with quick_imports():
            import_tensorflow()
        print(FACTS + json.dumps(facts_of(command_lines)), flush=True)
    except (InputError, RunError) as error:
        if "--debug" in command_lines[0]:
            raise
        print(f"error: {printable(str(error))}", flush=True)
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
