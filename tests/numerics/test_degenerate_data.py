"""Whole runs on data that hardly is any: every learner ends, and what it says is right."""

import json

import keras
import numpy as np
import pytest

from datasets.config import DataConfig
from datasets.images import ImageArrays, ImageDataset
from export import plots, plots_lottery
from export.config import ExportConfig
from learners import learner as learners
from learners.config import RunConfig, RunOptions
from learners.lottery_ticket.config import LotteryTicketConfig
from learners.lottery_ticket.learner import LotteryTicketLearner
from learners.weight_sparsification import learner as weight_sparse
from learners.weight_sparsification.config import WeightSparseConfig
from learners.weight_sparsification.learner import WeightSparseLearner
from nets.config import NetConfig
from tests.small_helper import SmallHelper
from utils.errors import InputError
from utils.run_dir import RunDir

PLAIN = np.full(3, 127.5, np.float32), np.full(3, 64, np.float32)


@pytest.fixture(scope="module", autouse=True)
def _figures_alone():
    """Without pictures and pages, which take longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learners, "finish_run", lambda report, *args: report)
        patch.setattr(plots, "plot_training", lambda *args: None)
        patch.setattr(plots_lottery, "plot_rounds", lambda *args: None)
        for name in ("plot_search", "plot_ratios"):
            patch.setattr(weight_sparse, name, lambda *args: None)
        yield


def data(counts=(24, 6, 7), classes=((0, 1, 2),) * 3, colour=None) -> ImageDataset:
    """Noise, or images of one colour; of each split the number of images and the classes that take turns."""
    generator, splits = np.random.default_rng(0), []
    for count, of_split in zip(counts, classes, strict=True):
        images = generator.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
        images = images if colour is None else np.full_like(images, colour)
        splits.append(ImageArrays(images, np.resize(np.int32(of_split), count)))
    mean, std = PLAIN
    return ImageDataset("noise", "noise", 3, *splits, mean=mean, std=std, crop_padding=0, flip=False)


class Run:
    """What a learner left, and its report."""

    def __init__(self, directory, learner_class, dataset, *, rate=0.05, batch_size=8, **groups):
        class Helper(SmallHelper):
            def load_data(self):
                return dataset

            def learning_rate_at(self, step):
                return np.full(np.shape(step), rate)

        config = RunConfig(
            RunOptions(quiet=True),
            NetConfig(DataConfig(batch_size=batch_size)),
            export=ExportConfig(formats="none"),
            **groups,
        )
        run_dir = RunDir(directory)
        run_dir.open({})
        learner = learner_class(config, Helper(config.net), run_dir)
        learner.check()
        self.report, self.directory = learner.run(), directory
        self.stages = json.loads((directory / "stages.json").read_text())

    def weights(self, name):
        """Path -> value of what is trained in one of the networks that were kept."""
        model = keras.models.load_model(self.directory / name)
        return {variable.path: variable.numpy() for variable in model.trainable_variables}

    def check_numbers(self):
        text = json.dumps(self.report, allow_nan=False)  # NaN anywhere would raise
        assert all(0 <= json.loads(text)[kind]["accuracy"] <= 1 for kind in ("dense", "compressed"))


def pruning(protocol, **options):
    return {"weight_sparse": WeightSparseConfig(prune_ratio_protocol=protocol, **options)}


def test_one_image_in_each_set_and_a_single_class(tmp_path):
    dataset = data((1, 1, 1), ((2,), (2,), (2,)))
    run = Run(tmp_path / "run", WeightSparseLearner, dataset, **pruning("dp"))
    run.check_numbers()
    assert (
        run.report["training"]["iterations"] == SmallHelper.num_epochs
    )  # a step an epoch, its batch of eight times it
    assert run.report["compressed"]["sparsity"] == 90 / 120  # of 120 weights exactly three quarters
    assert run.report["dense"]["accuracy"] == 1.0  # there is one image to learn, and it is the only one asked for


def test_images_of_one_colour_in_a_batch_larger_than_all_and_a_class_that_only_the_test_set_has(tmp_path):
    # The network has one answer for all images, that of the training's larger class, 1; of the 7 tested 0, 1, 2, 0, ...
    # two are of class 1.
    dataset = data(classes=((0, 1, 1), (0, 1), (0, 1, 2)), colour=99)
    run = Run(tmp_path / "run", WeightSparseLearner, dataset, batch_size=64, **pruning("dp"))
    run.check_numbers()
    assert run.report["training"]["iterations"] == SmallHelper.num_epochs
    assert run.report["compressed"]["accuracy"] in (2 / 7, 3 / 7)
    assert run.report["compressed"]["sparsity"] == 90 / 120


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_data_without_an_image_of_a_split_are_refused(name):
    counts = tuple(0 if split == name else 6 for split in ("train", "validation", "test"))
    with pytest.raises(InputError, match=f"the data noise must have at least one image for {name}"):
        data(counts)


def test_at_ratio_0_and_learning_rate_0_the_network_stays_the_dense_one(tmp_path):
    options = pruning("erk", prune_ratio=0.0)
    run = Run(tmp_path / "run", WeightSparseLearner, data(), rate=0.0, **options)
    run.check_numbers()
    assert run.report["compressed"]["sparsity"] == 0
    assert [layer["target_ratio"] for layer in run.report["layers"]] == [0, 0]
    dense, found = run.weights("dense/model.keras"), run.weights("model.keras")
    assert dense.keys() == found.keys()
    for path, value in dense.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


def test_a_lottery_at_learning_rate_0_only_removes(tmp_path):
    ticket = LotteryTicketConfig(prune_ratio=0.5, num_rounds=2)
    run = Run(tmp_path / "run", LotteryTicketLearner, data(), rate=0.0, lottery_ticket=ticket)
    run.check_numbers()
    assert run.report["compressed"]["sparsity"] == 60 / 120
    dense, found = run.weights("dense/model.keras"), run.weights("model.keras")
    for path, value in dense.items():
        np.testing.assert_array_equal(found[path], np.where(found[path] != 0, value, 0), err_msg=path)
