import keras
import numpy as np
import pytest

from compressors.masks import MaskSet
from learners.lottery_ticket.rewinding import KeepRewindPoint, RewindPoint
from learners.variables import named_arrays
from utils.errors import RunError


def network(optimizer):
    """A dense layer, dropout and batch norm; all variables, slots too, hold numbers of their own."""
    images = keras.Input((4,))
    x = keras.layers.Dropout(0.5, name="dropout")(keras.layers.Dense(3, name="fc")(images))
    model = keras.Model(images, keras.layers.BatchNormalization(name="bn")(x))
    optimizer.build(model.trainable_variables)
    disturb(model, optimizer, seed=1)
    return model


def disturb(model, optimizer, seed):
    generator = np.random.default_rng(seed)
    for variable in [*model.variables, *optimizer.variables]:
        variable.assign(generator.integers(1, 100, variable.shape).astype(np.asarray(variable.value).dtype))


def masked(model):
    """A mask set of the dense layer's kernel with its first row removed."""
    masks = MaskSet([model.get_layer("fc").kernel])
    masks.masks[0].assign(np.vstack([np.zeros((1, 3)), np.ones((3, 3))]))
    return masks


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [(keras.optimizers.SGD(0.1, momentum=0.9), 1), (keras.optimizers.Adam(), 2)],
    ids=["momentum", "adam"],
)
def test_everything_comes_back_but_masked_weights_and_their_slots_are_zero(tmp_path, optimizer, slots):
    model = network(optimizer)
    before, states = named_arrays(model.variables), [np.asarray(v.value) for v in optimizer.variables]
    point = RewindPoint(tmp_path / "rewind.npz")
    point.save(model, optimizer)
    disturb(model, optimizer, seed=2)
    masks = masked(model)
    point.rewind(model, optimizer, masks)
    mask = masks.masks[0].numpy()
    after = named_arrays(model.variables)
    assert "seed_generator_state" in " ".join(after)  # of the dropout: its random numbers begin again too
    for path, value in before.items():
        expected = value * mask if path == "fc/kernel" else value
        np.testing.assert_array_equal(after[path], expected, err_msg=path)
    of_kernel = [v.name for v in optimizer.variables if v.name.startswith("fc_kernel_")]
    assert len(of_kernel) == slots
    for variable, state in zip(optimizer.variables, states, strict=True):
        expected = state * mask if variable.name in of_kernel else state
        np.testing.assert_array_equal(variable.value, expected, err_msg=variable.name)


def test_it_is_kept_before_its_epoch_and_no_other(tmp_path):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model = network(optimizer)
    point = RewindPoint(tmp_path / "dense" / "rewind.npz")
    policy = KeepRewindPoint(2, point, model, optimizer)
    for epoch in (0, 1):
        policy.on_epoch_begin(epoch)
        assert not point.path.exists()
    expected = named_arrays(model.variables)
    policy.on_epoch_begin(2)
    disturb(model, optimizer, seed=3)
    policy.on_epoch_begin(3)
    point.rewind(model, optimizer, MaskSet([model.get_layer("fc").kernel]))
    np.testing.assert_equal(named_arrays(model.variables), expected)


def test_a_missing_file_is_named(tmp_path):
    optimizer = keras.optimizers.SGD(0.1)
    model = network(optimizer)
    before = named_arrays(model.variables)
    with pytest.raises(RunError, match=r"there is no .*rewind\.npz, which every round begins with; --overwrite"):
        RewindPoint(tmp_path / "rewind.npz").rewind(model, optimizer, masked(model))
    np.testing.assert_equal(named_arrays(model.variables), before)
