"""How a run scores roll-outs and finds its finalists' weights: the flags and the helper's data given to evaluators."""

from collections.abc import Callable

import keras

from compressors.distillation import Teacher
from compressors.path_table import PathTable
from compressors.ratios import Ratios
from learners.config import RunConfig
from learners.evaluation import Evaluation
from learners.weight_sparsification.config import WeightSparseConfig
from learners.weight_sparsification.rollout_eval import (
    BATCH_NORM_IMAGES,
    CALIBRATION_IMAGES,
    FineTuner,
    Measure,
    PathPruner,
    ProgressivePruner,
    RolloutEvaluator,
    SgdPruner,
)
from nets.model_helper import ModelHelper
from nets.tasks import ACCURACY, TOP_1, TOP_5
from utils.errors import InputError

MOST_SCORING_BATCHES = 25
SCORING_STEPS = 16  # training batches whose images score a roll-out, at most ...
BATCH_NORM_STEPS = 4  # ... and those whose images its batch norms are estimated from
MANY_CLASSES = 20  # from so many on a roll-out is scored by acc_top5


def reward_metric(options: WeightSparseConfig, helper: ModelHelper) -> str:
    """What scores a roll-out: with many classes the five largest outputs, which tell more of a pruned network."""
    if not helper.metrics:
        return helper.metric_name
    return options.reward_metric or (TOP_5 if helper.num_classes >= MANY_CLASSES else TOP_1)


def check_reward(options: WeightSparseConfig, helper: ModelHelper) -> None:
    """Raises InputError where the network cannot be scored as the flags say."""
    if options.reward_type == "multi-obj" and helper.metric_name != ACCURACY:
        raise InputError(
            "--ws_reward_type must be single-obj where the quality is no accuracy: multi-obj multiplies it by "
            f"log(1 + sparsity), and that punishes sparsity where it is negative. Received: multi-obj with "
            f"{helper.metric_name}"
        )
    asked = options.reward_metric
    if asked and asked not in helper.metrics:
        raise InputError(
            f"--ws_reward_metric needs a classification with more than five classes. Received: {asked} with "
            f"{helper.model_name}"
        )


def rollout_evaluator(
    config: RunConfig,
    helper: ModelHelper,
    dense: keras.Model,
    model: keras.Model,
    table: PathTable | None,
    metric: str,
    teacher: Teacher | None = None,
) -> RolloutEvaluator:
    """What scores roll-outs and finalists.

    Args:
        model: another network as `dense`, which takes its weights and is pruned.
        table: may be None where the solver does not use the paths.
        metric: what of the helper's metrics scores them; its quality where it has none of that name.
        teacher: what is fine-tuned learns from it.
    """
    options, alone = config.weight_sparse, helper.alone()
    model.set_weights(dense.get_weights())
    images = helper.calibration_images(CALIBRATION_IMAGES)
    prune: Callable[[Ratios], None]
    if options.regression_solver == "closed-form":
        assert table is not None, "this solver uses the paths"
        few = min(BATCH_NORM_IMAGES, BATCH_NORM_STEPS * config.net.data.batch_size)
        prune = PathPruner(model, dense, table, images[:few])
    else:
        iterations, rate = options.regression_iterations, options.regression_learning_rate
        prune = SgdPruner(model, dense, images, iterations, rate, options.gram_memory)
    batches = alone.validation_batches().take(scoring_batches(config))
    tuner = FineTuner(
        model,
        alone.training_batches,
        helper.training_loss,
        options.fine_tuning_learning_rate,
        config.net.training.weight_decay,
        helper.quality,
        teacher,
    )
    quality = helper.metrics.get(metric, helper.quality)
    validation = Evaluation(model, batches, helper.loss, in_memory=True, quality=quality)
    return RolloutEvaluator(model, prune, validation, tuner)


def scoring_batches(config: RunConfig) -> int:
    """Where training batches are small, so that a step is cheap, a roll-out is to cost no more steps."""
    data = config.net.data
    affordable = max(1, SCORING_STEPS * data.batch_size // data.evaluation_batch_size)
    return config.weight_sparse.evaluation_batches or min(MOST_SCORING_BATCHES, affordable)


def finalist_resolver(
    config: RunConfig, helper: ModelHelper, dense: keras.Model, evaluator: RolloutEvaluator
) -> Callable[[Ratios], Measure]:
    """How a finalist's weights are found: as in its roll-out, or progressively where that is better."""
    options = config.weight_sparse
    if options.regression_solver == "sgd":
        return evaluator.prune_and_measure
    images = helper.calibration_images(CALIBRATION_IMAGES)
    return ProgressivePruner(evaluator, dense, images, options.path_score, options.gram_memory)
