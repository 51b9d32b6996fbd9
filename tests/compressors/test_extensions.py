import keras
import numpy as np
import pydantic
import pytest
from keras import layers

from compressors.extensions import EXTENSIONS, ChannelRemover, FilterRemover, StructureRemover
from tests.networks_with_zeros import conv, head, network, zero, zero_channels
from utils.errors import InputError


def net():
    """Filter 0 of conv1 is zero, and nothing reads its filter 1."""
    model = network(conv(4, "conv1"), layers.ReLU(), conv(3, "conv2"), head)
    zero(model, "conv1", [0])
    zero_channels(model, "conv2", [1])
    return model


def kept_filters(remover):
    return list(remover.apply(net(), keras.optimizers.SGD()).slices["conv1/kernel"][-1])


def test_published_arguments_are_taken_by_all_classes():
    for name, remover in EXTENSIONS.items():
        assert remover.__name__ == name
        arguments = {"thinning_func_str": "remove_filters", "arch": "resnet20_cifar", "dataset": "cifar10"}
        assert remover(**arguments).arguments() == arguments


def test_each_class_has_its_function_by_default():
    assert kept_filters(FilterRemover()) == [1, 2, 3]
    assert kept_filters(ChannelRemover()) == [0, 2, 3]
    assert kept_filters(StructureRemover()) == [2, 3]


@pytest.mark.parametrize("remover", EXTENSIONS.values())
def test_the_function_decides_what_is_removed_whatever_the_class(remover):
    assert kept_filters(remover(thinning_func_str="remove_filters")) == [1, 2, 3]
    assert kept_filters(remover(thinning_func_str="remove_channels")) == [0, 2, 3]
    assert kept_filters(remover(thinning_func_str="remove_structures")) == [2, 3]


@pytest.mark.parametrize(
    "arguments",
    [{"thinning_func_str": "remove_layers"}, {"arch": 20}, {"layers": ["conv1"]}, {"thinning_func_str": None}],
)
def test_other_arguments_are_refused(arguments):
    with pytest.raises(pydantic.ValidationError):
        FilterRemover(**arguments)


def test_where_nothing_is_zero_there_is_nothing_to_do():
    model = network(conv(4, "conv1"), conv(3, "conv2"), head)
    for remover in EXTENSIONS.values():
        remover().check(model)
        assert remover().apply(model, keras.optimizers.SGD()) is None


def test_what_can_never_be_thinned_is_refused_before_training():
    with pytest.raises(InputError, match="remove_filters can remove nothing from the network 'net'"):
        FilterRemover().check(network(layers.Flatten(), layers.Dense(3)))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def test_a_subclassed_model_is_refused():
    with pytest.raises(InputError, match="the model must be functional"):
        StructureRemover().check(Subclassed())


def test_the_optimizer_is_of_the_same_class_and_configuration():
    optimizer = keras.optimizers.SGD(0.125, momentum=0.5, nesterov=True)
    thinned = FilterRemover().apply(net(), optimizer)
    assert thinned.optimizer is not optimizer
    assert thinned.optimizer.get_config() == optimizer.get_config()
    np.testing.assert_array_equal(thinned.slices["conv2/kernel"][2], [1, 2, 3])
