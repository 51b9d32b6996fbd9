"""What the weight-sparse learner decides from flags and network alone."""

import dataclasses

import pytest
import tensorflow as tf

from export.config import ExportConfig
from learners.config import RunConfig, RunOptions
from learners.weight_sparsification.config import WeightSparseConfig
from learners.weight_sparsification.learner import WeightSparseLearner
from nets.config import DataConfig, NetConfig
from nets.tasks import top_metrics
from tests.small_helper import SmallHelper
from utils.errors import InputError
from utils.run_dir import RunDir


class ManyClasses(SmallHelper):
    """As many classes as the test says; its network is not asked for."""

    num_classes = 20

    @property
    def metrics(self):
        return top_metrics(self.num_classes)


def learner(directory, helper_class, **options):
    config = RunConfig(
        RunOptions(learner="weight-sparse", quiet=True),
        NetConfig(DataConfig(batch_size=8)),
        weight_sparse=WeightSparseConfig(**options),
        export=ExportConfig(formats="none"),
    )
    return WeightSparseLearner(config, helper_class(config.net), RunDir(directory))


@pytest.mark.parametrize(
    ("classes", "metric"), [(6, "acc_top1"), (19, "acc_top1"), (20, "acc_top5"), (1000, "acc_top5")]
)
def test_with_many_classes_a_roll_out_is_scored_by_the_five_largest(tmp_path, classes, metric):
    helper_class = type("Helper", (ManyClasses,), {"num_classes": classes})
    assert learner(tmp_path, helper_class).reward_metric == metric


def test_the_flag_goes_before_the_number_of_classes(tmp_path):
    assert learner(tmp_path, ManyClasses, reward_metric="acc_top1").reward_metric == "acc_top1"


def test_a_network_without_such_metrics_is_scored_by_its_own(tmp_path):
    assert learner(tmp_path, SmallHelper).reward_metric == "accuracy"
    regression = type("Regression", (SmallHelper,), {"metric_name": "minus normalised error"})
    assert learner(tmp_path, regression).reward_metric == "minus normalised error"


def test_a_metric_that_the_network_does_not_have_is_an_error(tmp_path):
    with pytest.raises(
        InputError, match="--ws_reward_metric needs .* more than five classes. Received: acc_top5 with small"
    ):
        learner(tmp_path, SmallHelper, reward_metric="acc_top5").check()


def test_a_roll_out_is_scored_by_the_metric(tmp_path):
    class Always(SmallHelper):
        """Its metrics tell which of them was asked for."""

        metrics = {"acc_top1": lambda labels, logits: 0.25 + 0 * logits[:, 0], "acc_top5": None}

    scored = learner(tmp_path, Always, reward_metric="acc_top1", regression_solver="sgd", regression_iterations=0)
    evaluator = scored.evaluator(scored.new_model(), table=None)
    assert evaluator.score({layer.path: 0.5 for layer in scored.layers}).accuracy == 0.25


@pytest.mark.parametrize(
    ("batch_size", "asked", "batches"),
    [
        (128, 0, 20),
        (256, 0, 25),
        (32, 0, 5),
        (4, 0, 1),
        (32, 40, 40),
    ],  # of 100 images each
)
def test_a_roll_out_is_scored_on_no_more_images_than_sixteen_training_batches_have(
    tmp_path, monkeypatch, batch_size, asked, batches
):
    taken = []

    class Batches:
        def take(self, count):
            taken.append(count)
            return tf.data.Dataset.from_tensors((tf.zeros([1, 6, 6, 3]), tf.zeros([1], tf.int32)))

    scored = learner(tmp_path, SmallHelper, regression_solver="sgd", evaluation_batches=asked)
    net = dataclasses.replace(scored.config.net, data=DataConfig(batch_size=batch_size))
    scored.config = dataclasses.replace(scored.config, net=net)
    monkeypatch.setattr(SmallHelper, "validation_batches", lambda self: Batches())
    scored.evaluator(scored.new_model(), table=None)
    assert taken == [batches]
