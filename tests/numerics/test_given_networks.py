"""A network that holds, or gives, what is no number is refused with the place where it is."""

import keras
import numpy as np
import pytest

from datasets.config import DataConfig
from export.config import ExportConfig
from export.keras_model import save_plain_model
from learners.config import RunConfig, RunOptions
from learners.full_precision import FullPrecisionLearner
from learners.network_files import load_network
from nets.config import NetConfig
from nets.keras_weights import Target, read_weights
from nets.network_checks import check_network
from tests.small_helper import SmallHelper
from utils.errors import InputError, RunError
from utils.finite import all_finite, not_finite
from utils.run_dir import RunDir


def network() -> keras.Model:
    return SmallHelper(NetConfig(DataConfig(batch_size=8))).build_model()


def with_number(layer: str, number: float) -> keras.Model:
    """The small network with this number in a layer's last variable, which of a batch norm is the variance."""
    model = network()
    variable = model.get_layer(layer).weights[-1]
    values = variable.numpy()
    values.flat[1] = number
    variable.assign(values)
    return model


@pytest.mark.parametrize(("layer", "number"), [("conv", np.nan), ("bn", np.inf), ("fc", -np.inf)])
def test_variables_that_hold_no_numbers_are_found(layer, number):
    model = with_number(layer, number)
    variable = model.get_layer(layer).weights[-1]
    size = variable.numpy().size
    assert not_finite(model.variables) == f"{number} in {variable.path} (1 of its {size} numbers)"
    assert not all_finite(model.variables)


def test_variables_of_numbers_are_finite_and_so_are_whole_numbers_and_none():
    model = network()  # a dropout layer's state is whole numbers
    assert not_finite(model.variables) == ""
    assert all_finite(model.variables)
    assert all_finite([])


def test_a_saved_network_with_nan_is_refused_and_nothing_is_taken_over(tmp_path):
    save_plain_model(with_number("conv", np.nan), tmp_path / "nan.keras")
    model = network()
    before = model.get_weights()
    with pytest.raises(InputError, match=r"nan\.keras must hold finite weights. Received: nan in conv/kernel \(1 of"):
        load_network(tmp_path / "nan.keras", model)
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_user_s_own_network_with_infinity_is_refused():
    with pytest.raises(InputError, match=r"^the network of x must have finite weights. Received: inf in fc/bias"):
        check_network(with_number("fc", np.inf), "the network of x")


def test_published_weights_with_nan_are_refused(tmp_path):
    save_plain_model(with_number("conv", np.nan), tmp_path / "nan.keras")
    target = Target("small", lambda *args: pytest.fail("it was built"), [{}], None, 6, (0, 0, 0), (1, 1, 1))
    with pytest.raises(InputError, match=r"--keras_weights .*nan\.keras must hold finite weights. .* conv/kernel"):
        read_weights(str(tmp_path / "nan.keras"), target, needs_classifier=True)


def learner(directory, **options) -> FullPrecisionLearner:
    config = RunConfig(
        RunOptions(quiet=True, **options), NetConfig(DataConfig(batch_size=8)), export=ExportConfig(formats="none")
    )
    run_dir = RunDir(directory)
    run_dir.open({})
    return FullPrecisionLearner(config, SmallHelper(config.net), run_dir)


def test_a_network_whose_outputs_are_no_numbers_is_no_dense_network(tmp_path):
    # All weights are finite, but the products with this one are too large for float32.
    save_plain_model(with_number("conv", 3e38), tmp_path / "bad.keras")
    with pytest.raises(RunError, match=r"gives outputs that are no numbers: .* (nan|inf). Its weights are finite"):
        learner(tmp_path / "run", save_path=str(tmp_path / "bad.keras")).run()
    assert not (tmp_path / "run" / "stages.json").exists()
    assert not (tmp_path / "run" / "dense" / "model.keras").exists()


def test_an_evaluated_network_with_nan_is_told_and_has_no_accuracy(tmp_path):
    save_plain_model(with_number("conv", np.nan), tmp_path / "nan.keras")
    with pytest.raises(RunError, match=r"no numbers: .* It holds nan in conv/kernel"):
        learner(tmp_path / "run", save_path_eval=str(tmp_path / "nan.keras")).evaluate()
