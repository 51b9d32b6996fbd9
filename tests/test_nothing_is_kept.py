"""Networks that are no longer used are freed: a program that compresses one after the other does not grow."""

import gc
import warnings
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.graph import prunable_kernels
from compressors.masks import MaskSet
from compressors.policies import FixedMasks
from compressors.pruner_api import AGP_Pruner, LevelPruner, LotteryTicketPruner, SearchPruner
from datasets.images import ImageArrays
from datasets.pipeline import training_batches
from export import plots, plots_lottery
from learners.lottery_ticket.learner import LotteryTicketLearner
from learners.train_step import TrainStep
from tests.small_helper import SmallHelper, lottery_config
from tests.small_training import conv_net, cross_entropy, image_batches
from utils.run_dir import RunDir

EVERYWHERE = {"op_types": ["default"]}


def levelled(model):
    pruner = LevelPruner(model, [{"sparsity": 0.5, **EVERYWHERE}])
    pruner.compress()
    return pruner


def gradually(model):
    epochs = {"start_epoch": 0, "end_epoch": 2, "frequency": 1}
    pruner = AGP_Pruner(model, [{"initial_sparsity": 0.0, "final_sparsity": 0.5, **epochs, **EVERYWHERE}])
    pruner.compress()
    pruner.update_epoch(1)
    return pruner


def by_lottery(model):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    pruner = LotteryTicketPruner(model, [{"prune_iterations": 1, "sparsity": 0.5, **EVERYWHERE}], optimizer)
    pruner.compress()
    for _ in pruner.get_prune_iterations():
        pruner.prune_iteration_start()
    return pruner


def trained(model):
    policy = FixedMasks(MaskSet(prunable_kernels(model)))
    step = TrainStep(model, keras.optimizers.SGD(0.1), cross_entropy, policy)
    step.run(iter(image_batches()), np.full(2, 0.1))
    return step


@pytest.mark.parametrize("use", [levelled, gradually, by_lottery, trained])
def test_networks_that_were_pruned_and_dropped_are_freed(use):
    def dropped():
        model = conv_net()
        used = use(model)
        return [weakref.ref(thing) for thing in (model, used, *(variable.value for variable in model.variables))]

    references = [reference for _ in range(5) for reference in dropped()]
    gc.collect()
    assert sum(reference() is not None for reference in references) == 0


def read_batches():
    images = np.zeros((8, 4, 4, 3), np.uint8)
    arrays, numbers = ImageArrays(images, np.zeros(8, np.int32)), np.ones(3, np.float32)
    batches = training_batches(
        arrays, mean=numbers, std=numbers, batch_size=2, seed=0, start_step=3, crop_padding=1, flip=True
    )
    next(iter(batches))


@pytest.mark.parametrize("work", [lambda: trained(conv_net()), read_batches], ids=["steps", "batches"])
def test_compiled_programs_are_freed(work):
    def graphs():
        gc.collect()
        return sum(isinstance(thing, tf.Graph) for thing in gc.get_objects())

    work()
    before = graphs()
    for _ in range(3):
        work()
    assert graphs() == before


def networks():
    gc.collect()
    return sum(isinstance(thing, keras.Model) for thing in gc.get_objects())


def test_a_search_keeps_no_copy_of_the_network():
    before, model = networks(), conv_net()
    images, labels = (part.numpy() for part in next(iter(image_batches())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that these are few images
        SearchPruner(model, images, (images, labels), 0.5, "dp", quiet=True).compress()
    assert networks() == before + 1
    del model
    assert networks() == before


def test_a_run_that_is_over_keeps_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "plot_training", lambda *args: None)
    monkeypatch.setattr(plots_lottery, "plot_rounds", lambda *args: None)
    before, config = networks(), lottery_config(rounds=2)
    run_dir = RunDir(tmp_path / "run")
    run_dir.open({})
    learner = LotteryTicketLearner(config, SmallHelper(config.net), run_dir)
    learner.run()
    del learner
    assert networks() == before
