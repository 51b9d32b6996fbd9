import keras
import pytest
from keras import layers

from compressors.components import Target, targets_of
from compressors.parameters import CONV, DENSE, DEPTHWISE, OTHER, Parameters, layer_name, spoken_name
from utils.errors import InputError


@pytest.fixture
def model():
    """A network with every kind of parameter, under PyTorch-style layer names."""
    images = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, use_bias=False, name="conv1")(images)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.DepthwiseConv2D(3, name="features.0.1")(x)
    x = layers.Conv2D(6, 1, groups=2, name="layer1.0.conv1")(x)
    x = layers.Conv2D(5, 1, name="layer1.0.conv2")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(2, name="fc")(x))


@pytest.fixture
def parameters(model):
    return Parameters(model)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("conv1/kernel", "conv1/kernel"),
        ("conv1.weight", "conv1/kernel"),
        ("module.conv1.weight", "conv1/kernel"),
        ("conv1.kernel", "conv1/kernel"),
        ("features.module.0.1.weight", "features.0.1/kernel"),
        ("module.layer1.0.conv2.weight", "layer1.0.conv2/kernel"),
        ("layer1.0.conv2.bias", "layer1.0.conv2/bias"),
        ("module.bn1.weight", "bn1/gamma"),
        ("bn1.bias", "bn1/beta"),
        ("fc.module.weight", "fc/kernel"),
    ],
)
def test_a_name_of_either_spelling_finds_its_parameter(parameters, name, path):
    assert parameters.find(name).path == path


@pytest.mark.parametrize(
    "name", ["", "weight", "conv1", "conv2.weight", "conv1.bias", "bn1.running_mean", "conv1/gamma", "bn1.kernel"]
)
def test_other_names_find_nothing(parameters, name):
    assert parameters.find(name) is None


def test_statistics_and_frozen_layers_are_no_parameters(model):
    model.get_layer("fc").trainable = False
    paths = {parameter.path for parameter in Parameters(model)}
    assert not paths & {"bn1/moving_mean", "bn1/moving_variance", "fc/kernel", "fc/bias"}


@pytest.mark.parametrize(
    ("path", "kind", "shape", "is_prunable"),
    [
        ("conv1/kernel", CONV, (3, 3, 3, 4), True),
        ("features.0.1/kernel", DEPTHWISE, (3, 3, 4, 1), False),
        ("layer1.0.conv1/kernel", CONV, (1, 1, 2, 6), False),
        ("layer1.0.conv2/bias", OTHER, (5,), False),
        ("bn1/gamma", OTHER, (4,), False),
        ("fc/kernel", DENSE, (5, 2), True),
    ],
)
def test_kind_shape_and_whether_pruning_acts_on_it_by_default(parameters, path, kind, shape, is_prunable):
    parameter = parameters[path]
    assert (parameter.kind, parameter.shape, parameter.is_prunable) == (kind, shape, is_prunable)


def test_size_is_the_number_of_weights(parameters):
    assert parameters["conv1/kernel"].size == 108
    assert parameters["fc/bias"].size == 2


def test_prunable_kernels_come_in_the_order_of_the_graph(parameters):
    assert [p.path for p in parameters.prunable()] == ["conv1/kernel", "layer1.0.conv2/kernel", "fc/kernel"]


def test_variables_are_those_of_the_model(model, parameters):
    assert {id(variable) for variable in parameters.variables.values()} == set(map(id, model.trainable_variables))


def test_an_unknown_name_is_reported_with_those_nearest_to_it(parameters):
    with pytest.raises(
        InputError, match=r"no parameter 'module\.layer1\.0\.conv3\.weight'; the nearest are layer1\.0\.conv"
    ):
        parameters.resolve_all(["module.layer1.0.conv3.weight"])
    with pytest.raises(InputError, match="no parameter 'conv2/kernel'; the nearest are conv1/kernel"):
        parameters.resolve_all(["conv2/kernel"])


def test_all_unknown_names_are_reported_at_once(parameters):
    with pytest.raises(InputError, match="'conv7.weight'.*; .*'conv8.weight'"):
        parameters.resolve_all(["conv7.weight", "fc.weight", "conv8.weight"])


def test_a_name_like_no_other_is_reported_without_a_hint(parameters):
    with pytest.raises(InputError, match="no parameter 'Q'; the model has 11 parameters"):
        parameters.resolve_all(["Q"])


def test_two_names_of_one_parameter_are_an_error(parameters):
    with pytest.raises(InputError, match="'fc.weight' and 'fc/kernel' are the same parameter, fc/kernel"):
        parameters.resolve_all(["fc.weight", "conv1.weight", "fc/kernel"])


def test_names_keep_their_order_and_spelling(parameters):
    found = parameters.resolve_all(["module.fc.weight", "conv1/kernel"])
    assert {name: parameter.path for name, parameter in found.items()} == {
        "module.fc.weight": "fc/kernel",
        "conv1/kernel": "conv1/kernel",
    }


def test_in_a_sequential_model_the_name_of_the_layer_is_enough():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3, name="fc1"), layers.Dense(2, name="fc2")], name="net")
    parameters = Parameters(model)
    for name in ("net/fc1/kernel", "fc1.weight", "module.fc1.weight", "net.fc1.weight"):
        assert parameters.find(name).path == "net/fc1/kernel"


def test_the_end_of_a_path_is_no_name_where_two_paths_have_it():
    inner = keras.Sequential(
        [layers.Input((4,)), layers.Dense(3, name="fc"), layers.Dense(3, name="fc2")], name="inner"
    )
    parameters = Parameters(keras.Sequential([layers.Input((4,)), inner, layers.Dense(2, name="fc")], name="outer"))
    assert parameters.find("fc.weight") is None
    assert parameters.find("inner.fc.weight").shape == (4, 3)
    assert parameters.find("outer.fc.weight").shape == (3, 2)
    assert parameters.find("fc2.weight").path == "inner/fc2/kernel"
    with pytest.raises(InputError, match=r"the nearest are (inner\.fc\.weight|outer\.fc\.weight|inner\.fc2\.weight)"):
        parameters.resolve_all(["fc.weight"])


def test_a_whole_path_goes_before_the_end_of_another():
    inner = keras.Sequential([layers.Input((4,)), layers.Dense(3, name="fc")], name="inner")
    inputs = layers.Input((4,))
    parameters = Parameters(keras.Model(inputs, layers.Dense(2, name="fc")(inner(inputs))))
    assert parameters.find("fc.weight").path == "fc/kernel"


def test_a_layer_inside_a_layer_is_found():
    inputs = layers.Input((5, 4))
    parameters = Parameters(keras.Model(inputs, layers.MultiHeadAttention(2, 3, name="heads")(inputs, inputs)))
    assert parameters.find("module.heads.query.weight").path == "heads/query/kernel"


def test_a_layer_used_twice_is_one_layer():
    inputs, shared = layers.Input((4,)), layers.Dense(4, name="fc")
    parameters = Parameters(keras.Model(inputs, shared(shared(inputs))))
    assert [parameter.path for parameter in parameters] == ["fc/kernel", "fc/bias"]


def test_two_variables_of_one_path_are_an_error():
    inputs = layers.Input((4,))
    inner = keras.Model(inputs, layers.Dense(4, name="fc")(inputs))
    with pytest.raises(InputError, match="two variables 'fc/kernel'"):
        Parameters(keras.Model(inputs, layers.Dense(2, name="fc")(inner(inputs))))


def test_names_without_their_module_components():
    assert layer_name("module.features.module.0") == "features.0"
    assert layer_name("modules.0") == "modules.0"
    assert spoken_name("layer1.0.bn1/gamma") == "layer1.0.bn1.weight"


def test_a_star_means_every_prunable_kernel_that_no_other_key_names(parameters):
    targets = targets_of({"*": 0.5, "module.conv1.weight": 0.2, "bn1.weight": 0.1}, parameters)
    assert {target.path: target.setting for target in targets} == {
        "conv1/kernel": 0.2,
        "bn1/gamma": 0.1,
        "layer1.0.conv2/kernel": 0.5,
        "fc/kernel": 0.5,
    }


def test_without_a_star_only_the_named_parameters_are_targets(parameters):
    assert targets_of({"fc.weight": 1}, parameters) == [Target(parameters["fc/kernel"], 1)]


def of_convolutions(parameter, setting):
    if parameter.kind != CONV:
        raise InputError(f"{parameter.path} is no convolution")
    return setting + 1


def test_a_star_leaves_out_the_kernels_that_its_setting_does_not_suit(parameters):
    targets = targets_of({"*": 1}, parameters, of_convolutions)
    assert {target.path: target.setting for target in targets} == {"conv1/kernel": 2, "layer1.0.conv2/kernel": 2}


@pytest.mark.parametrize(
    "settings", [{"fc.weight": 1}, {"conv1.weight": 1, "layer1.0.conv2.weight": 1, "*": 1}], ids=["a name", "all of *"]
)
def test_a_setting_that_suits_no_kernel_it_is_for_is_refused(settings, parameters):
    with pytest.raises(InputError, match="fc/kernel is no convolution"):
        targets_of(settings, parameters, of_convolutions)
