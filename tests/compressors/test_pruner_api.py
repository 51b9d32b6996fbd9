"""The pruner API: exact masks, and that they hold in every kind of training."""

import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from compressors.pruner_api import AGP_Pruner, LevelPruner, LotteryTicketPruner
from utils.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = np.array([[1, -2], [3, -4], [5, -6], [7, -8], [9, -10]], np.float32)  # 10 weights, magnitudes 1 to 10
EVERYTHING = [{"sparsity": 0.75, "op_types": ["default"]}]


def linear(weights=WEIGHTS):
    model = keras.Sequential([keras.Input((len(weights),)), layers.Dense(weights.shape[1], use_bias=False, name="fc")])
    model.set_weights([weights])
    return model


def kept(model):
    """The magnitudes of the linear model that are left."""
    return sorted(np.abs(model.layers[0].kernel.numpy()[model.layers[0].kernel.numpy() != 0]).tolist())


def conv_net(dtype=None):
    """Convolutions, batch norm and a dense layer, on 6 x 6 images of 2 channels."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, dtype=dtype, name="conv")(inputs)
    x = layers.BatchNormalization(dtype=dtype, name="norm")(x)
    x = layers.ReLU(dtype=dtype)(x)
    x = layers.DepthwiseConv2D(3, dtype=dtype, name="depthwise")(x)
    x = layers.Flatten(dtype=dtype)(x)
    return keras.Model(inputs, layers.Dense(3, dtype=dtype, name="fc")(x))


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    images = generator.standard_normal((64, 6, 6, 2)).astype(np.float32)
    return images, (images.mean(axis=(1, 2, 3)) > 0).astype(np.int32) + (images[:, 0, 0, 0] > 1)


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def assert_held(pruner):
    """Every masked weight is exactly 0, and something is masked."""
    for name, mask in pruner.masks.items():
        assert not pruner._kernels[name].numpy()[~mask].any(), name
    assert any(not mask.all() for mask in pruner.masks.values())


class EachStep(keras.callbacks.Callback):
    """Looks at the masks after every training batch."""

    def __init__(self, pruner):
        super().__init__()
        self.pruner, self.steps = pruner, 0

    def on_train_batch_end(self, batch, logs=None):
        assert_held(self.pruner)
        self.steps += 1


# LevelPruner.


@pytest.mark.parametrize(
    ("sparsity", "left"),
    [
        (0.0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (0.09, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),  # floor(0.9) = 0
        (0.25, [3, 4, 5, 6, 7, 8, 9, 10]),
        (0.8, [9, 10]),
        (0.99, [10]),
    ],
)
def test_a_level_removes_exactly_the_floor_of_the_smallest(sparsity, left):
    model = linear()
    pruner = LevelPruner(model, [{"sparsity": sparsity, "op_types": ["default"]}])
    assert pruner.compress() is model
    assert kept(model) == left
    (mask,) = pruner.masks.values()
    assert sorted(np.abs(WEIGHTS[mask]).tolist()) == left


def test_of_equal_weights_the_first_go_first():
    model = linear(np.array([[2.0, 1.0], [-1.0, 1.0]], np.float32))
    pruner = LevelPruner(model, [{"sparsity": 0.5}])
    pruner.compress()
    (mask,) = pruner.masks.values()
    assert mask.tolist() == [[True, False], [False, True]]


def test_each_layer_is_pruned_by_itself():
    model = conv_net()
    pruner = LevelPruner(model, [{"sparsity": 0.5}, {"sparsity": 0.9, "op_names": ["fc"]}])
    pruner.compress()
    removed = {row.layer: row.removed for row in pruner.get_pruned_weights()}
    assert removed == {"conv": 36, "depthwise": 18, "fc": int(0.9 * 192)}


# Masks hold in every kind of training.


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "ftrl": lambda: keras.optimizers.Ftrl(0.01),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "accumulated": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=3),
    "averaged": lambda: keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.5),
    "overwritten": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    "clipped": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.1),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9), initial_scale=8.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masked_weights_are_zero_after_every_step_of_fit(name, data):
    model = conv_net()
    model.compile(OPTIMIZERS[name](), LOSS)
    model.fit(*data, batch_size=16, verbose=0)  # fills momenta
    before = model.layers[1].kernel.numpy()
    pruner = LevelPruner(model, EVERYTHING)
    pruner.compress()
    watch = EachStep(pruner)
    model.fit(*data, batch_size=16, epochs=2, verbose=0, callbacks=[watch])
    assert watch.steps == 8
    assert_held(pruner)  # also once an optimizer has put its averages in place of the weights
    assert np.isfinite(model.layers[1].kernel.numpy()).all()
    mask = pruner.masks[model.layers[1].kernel.path]
    assert not np.allclose(model.layers[1].kernel.numpy()[mask], before[mask], atol=1e-6)  # it did train


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64", "bfloat16"])
def test_masks_hold_in_other_precisions(policy, data):
    model = conv_net(policy)
    model.compile(keras.optimizers.Adam(0.01), LOSS)
    pruner = LevelPruner(model, EVERYTHING)
    pruner.compress()
    model.fit(*data, batch_size=16, epochs=2, verbose=0, callbacks=[EachStep(pruner)])
    assert_held(pruner)
    assert {row.removed for row in pruner.get_pruned_weights()} == {54, 27, 144}


def test_several_steps_in_one_call_are_not_traced_again(data):
    traces = []

    class Counted(layers.Layer):
        def call(self, x):
            traces.append(1)
            return x

    base = conv_net()
    model = keras.Model(base.inputs, Counted()(base.outputs[0]))
    model.compile(keras.optimizers.Adam(0.01), LOSS, steps_per_execution=4)
    pruner = AGP_Pruner(model, [{"final_sparsity": 0.9, "end_epoch": 5}])
    pruner.compress()
    model.fit(*data, batch_size=16, epochs=2, verbose=0, callbacks=[pruner.callback()])
    once = len(traces)
    model.fit(*data, batch_size=16, initial_epoch=2, epochs=6, verbose=0, callbacks=[pruner.callback()])
    assert len(traces) == once
    assert_held(pruner)


def test_a_custom_loop_gives_what_fit_gives(data):
    def prepared():
        model = conv_net()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS)
        LevelPruner(model, EVERYTHING).compress()
        return model

    batches = tf.data.Dataset.from_tensor_slices(data).batch(16)
    fitted, looped = prepared(), prepared()
    fitted.fit(batches, epochs=2, verbose=0)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = LOSS(labels, looped(images, training=True))
        variables = looped.trainable_variables
        looped.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for _ in range(2):
        for images, labels in batches:
            step(images, labels)
    for one, other in zip(fitted.get_weights(), looped.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(one == 0, other == 0)


def test_momentum_by_hand():
    # w = [2, 1], the loss's gradient is 1 for both; 1 is masked. v = 0.9 v - 0.1 g: w_0 = 2 - 0.1 - 0.19 = 1.71
    model = linear(np.array([[2.0], [1.0]], np.float32))
    pruner = LevelPruner(model, [{"sparsity": 0.5}])
    pruner.compress()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    for _ in range(2):
        optimizer.apply([tf.ones((2, 1))], model.trainable_variables)
    np.testing.assert_allclose(model.layers[0].kernel.numpy(), [[1.71], [0]], rtol=1e-6)


def test_a_constraint_of_the_layer_still_holds():
    kernel = layers.Dense(2, use_bias=False, kernel_constraint=keras.constraints.MaxNorm(0.5))
    model = keras.Sequential([keras.Input((5,)), kernel])
    model.set_weights([WEIGHTS])
    pruner = LevelPruner(model, [{"sparsity": 0.5}])
    pruner.compress()
    keras.optimizers.SGD(0.1).apply([tf.ones((5, 2))], model.trainable_variables)
    assert_held(pruner)
    assert np.linalg.norm(kernel.kernel.numpy(), axis=0).max() <= 0.5
    assert isinstance(kernel.kernel_constraint, keras.constraints.MaxNorm)  # the layer's configuration is untouched


def test_neither_layers_nor_names_change():
    model = conv_net()
    before = [(type(layer), layer.name) for layer in model.layers], [v.path for v in model.variables], model.to_json()
    LevelPruner(model, EVERYTHING).compress()
    assert ([(type(layer), layer.name) for layer in model.layers], [v.path for v in model.variables],
            model.to_json()) == before  # fmt: skip


def test_a_mask_turns_infinite_weights_to_zero():
    model = linear(np.array([[2.0], [1.0]], np.float32))
    LevelPruner(model, [{"sparsity": 0.5}]).compress()
    keras.optimizers.SGD(1.0).apply([tf.constant([[0.5], [np.inf]])], model.trainable_variables)
    assert model.layers[0].kernel.numpy().tolist() == [[1.5], [0.0]]


# Kinds of models and layers.


def one_layer(layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layers.Flatten()(layer(inputs)))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: layers.Conv1D(4, 3), (8, 3)),
        (lambda: layers.Conv2D(6, 3, groups=3), (8, 8, 6)),
        (lambda: layers.Conv3D(4, 3), (6, 6, 6, 2)),
        (lambda: layers.Conv1DTranspose(4, 3), (8, 3)),
        (lambda: layers.Conv2DTranspose(4, 3), (8, 8, 3)),
        (lambda: layers.Conv3DTranspose(2, 3), (4, 4, 4, 2)),
        (lambda: layers.DepthwiseConv1D(3), (8, 4)),
        (lambda: layers.DepthwiseConv2D(3), (8, 8, 4)),
        (lambda: layers.SeparableConv1D(4, 3), (8, 4)),
        (lambda: layers.SeparableConv2D(4, 3), (8, 8, 4)),
        (lambda: layers.Dense(8), (16,)),
        (lambda: layers.EinsumDense("abc,cd->abd", (6, 8)), (6, 4)),
        (lambda: layers.LSTM(4, return_sequences=True), (6, 4)),
        (lambda: layers.MultiHeadAttention(2, 4), (6, 4)),
        (lambda: layers.Bidirectional(layers.GRU(4)), (6, 4)),
    ],
)
def test_every_kind_of_layer_is_pruned_trained_saved_and_loaded(layer, shape, tmp_path):
    made = layer()
    if isinstance(made, layers.MultiHeadAttention):
        inputs = keras.Input(shape)
        model = keras.Model(inputs, layers.Flatten()(made(inputs, inputs)))
    else:
        model = one_layer(made, shape)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    pruner = LevelPruner(model, EVERYTHING)
    pruner.compress()
    for row in pruner.get_pruned_weights():
        assert row.removed == int(0.75 * row.weights) > 0
    images = np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32)
    model.fit(images, np.ones((8, model.output_shape[-1]), np.float32), verbose=0, epochs=2)
    assert_held(pruner)
    pruner.export_model(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))


def test_an_embedding_is_pruned_on_demand_and_trained_with_sparse_gradients():
    model = keras.Sequential([keras.Input((5,)), layers.Embedding(20, 4), layers.Flatten(), layers.Dense(2)])
    model.compile("adam", "mse")
    pruner = LevelPruner(model, [{"sparsity": 0.5, "op_types": ["Embedding"]}])
    pruner.compress()
    (row,) = pruner.get_pruned_weights()
    assert (row.weights, row.removed) == (80, 40)
    tokens = np.random.default_rng(0).integers(0, 20, (32, 5))
    model.fit(tokens, np.ones((32, 2)), epochs=2, verbose=0, callbacks=[EachStep(pruner)])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [keras.Sequential([layers.Dense(8, name="fc"), layers.ReLU()]) for _ in range(2)]
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_a_subclassed_model_with_lists_of_nested_models_is_pruned():
    model = Subclassed()
    x, y = np.ones((16, 4), np.float32), np.ones((16, 2), np.float32)
    model(x)
    model.compile("adam", "mse")
    pruner = LevelPruner(model, [{"sparsity": 0.5}])
    pruner.compress()
    assert [row.removed for row in pruner.get_pruned_weights()] == [16, 32, 8]
    model.fit(x, y, verbose=0, epochs=2, callbacks=[EachStep(pruner)])


def test_a_shared_layer_is_pruned_once_and_stays_pruned():
    inputs, shared = keras.Input((4,)), layers.Dense(4, name="shared")
    model = keras.Model(inputs, shared(shared(inputs)))
    model.compile("sgd", "mse")
    pruner = LevelPruner(model, [{"sparsity": 0.5}])
    pruner.compress()
    assert [row.removed for row in pruner.get_pruned_weights()] == [8]
    model.fit(np.ones((8, 4)), np.ones((8, 4)), verbose=0, callbacks=[EachStep(pruner)])


class Own(layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 3))

    def call(self, x):
        return x @ self.table


def test_layers_that_cannot_be_pruned_are_named_in_a_warning():
    model = keras.Sequential([keras.Input((4,)), Own(name="mine"), layers.Dense(2)])
    with pytest.warns(UserWarning, match=r"cannot be pruned and stay as they are: mine \(Own has no kernel\)"):
        LevelPruner(model, [{"sparsity": 0.5}])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LevelPruner(model, [{"sparsity": 0.5, "op_types": ["Dense"]}])
        LevelPruner(conv_net(), EVERYTHING)


# AGP_Pruner.

GRADUAL = [
    {"initial_sparsity": 0, "final_sparsity": 0.8, "start_epoch": 0, "end_epoch": 10, "frequency": 1,
     "op_types": "default"},
]  # fmt: skip


def test_gradual_pruning_by_hand():
    model = linear()
    pruner = AGP_Pruner(model, GRADUAL)
    pruner.compress()
    counts = []
    for epoch in range(12):
        pruner.update_epoch(epoch)
        counts.append(10 - len(kept(model)))
    assert counts == [0, 2, 3, 5, 6, 7, 7, 7, 7, 7, 8, 8]  # floor(10 * .2168), floor(10 * .3904), ...
    assert kept(model) == [9, 10]


def test_epochs_may_be_skipped_repeated_and_gone_back_to():
    model = linear()
    pruner = AGP_Pruner(model, GRADUAL)
    pruner.compress()
    pruner.update_epoch(5)
    assert kept(model) == [8, 9, 10]
    pruner.update_epoch(5)
    assert kept(model) == [8, 9, 10]
    pruner.update_epoch(2)
    assert kept(model) == [4, 5, 6, 7, 8, 9, 10]  # with the values they had
    pruner.update_epoch(0)
    assert kept(model) == list(range(1, 11))


def test_going_back_after_older_weights_were_loaded_gives_the_older_masks(data):
    model = conv_net()
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    pruner = AGP_Pruner(model, GRADUAL)
    pruner.compress()
    kept_states = {}
    for epoch in range(6):
        pruner.update_epoch(epoch)
        kept_states[epoch] = (model.get_weights(), pruner.masks)
        model.fit(*data, batch_size=16, verbose=0)
    weights, masks = kept_states[3]
    model.set_weights(weights)
    pruner.update_epoch(3)
    for name, mask in pruner.masks.items():
        np.testing.assert_array_equal(mask, masks[name])
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_was_removed_does_not_come_back_while_sparsity_rises():
    model = linear()
    pruner = AGP_Pruner(model, GRADUAL)
    pruner.compress()
    pruner.update_epoch(2)  # 1, 2, 3 go
    model.layers[0].kernel.assign(model.layers[0].kernel / 100.0)  # now smaller than the removed ones were
    pruner.update_epoch(4)
    np.testing.assert_allclose(kept(model), [0.07, 0.08, 0.09, 0.10], rtol=1e-6)


def test_fit_prunes_through_the_callback_and_a_resumed_fit_goes_on_at_its_epoch(data):
    model = conv_net()
    model.compile(keras.optimizers.Adam(0.01), LOSS)
    pruner = AGP_Pruner(model, GRADUAL)
    pruner.compress()
    model.fit(*data, epochs=3, verbose=0, callbacks=[pruner.callback()])
    assert pruner.get_pruned_weights()[0].removed == int(72 * 0.3904)
    model.fit(*data, initial_epoch=7, epochs=8, verbose=0, callbacks=[pruner.callback(), EachStep(pruner)])
    assert pruner.get_pruned_weights()[0].removed == int(72 * 0.7784)


def test_layers_may_have_schedules_of_their_own():
    model = conv_net()
    pruner = AGP_Pruner(model, [*GRADUAL, {"final_sparsity": 0.5, "start_epoch": 4, "end_epoch": 4, "op_names": "fc"}])
    pruner.compress()
    pruner.update_epoch(3)
    assert {row.layer: row.removed for row in pruner.get_pruned_weights()}["fc"] == 0
    pruner.update_epoch(10)
    assert [row.removed for row in pruner.get_pruned_weights()] == [int(0.8 * 72), int(0.8 * 36), 96]


# LotteryTicketPruner.

ROUNDS = [{"prune_iterations": 2, "sparsity": 0.75, "op_types": ["default"]}]


def test_rounds_by_hand():
    model = linear(WEIGHTS[:4])  # magnitudes 1 to 8
    optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
    pruner = LotteryTicketPruner(model, ROUNDS, optimizer)
    pruner.compress()
    kernel = model.layers[0].kernel
    assert list(pruner.get_prune_iterations()) == [0, 1, 2]

    pruner.prune_iteration_start()
    assert kept(model) == [1, 2, 3, 4, 5, 6, 7, 8]
    kernel.assign(1.0 / WEIGHTS[:4])  # training turns the order round
    optimizer.apply([tf.zeros((4, 2))], model.trainable_variables)
    optimizer.learning_rate.assign(0.01)

    pruner.prune_iteration_start()
    assert kept(model) == [1, 2, 3, 4]  # those that were largest after training, with their initial values
    np.testing.assert_allclose(kernel.numpy()[:2], WEIGHTS[:2])
    assert float(optimizer.learning_rate) == 0.5
    assert int(optimizer.iterations) == 0
    optimizer.apply([tf.ones((4, 2))], model.trainable_variables)  # the masks hold

    # After a step of -0.5 they are .5, -2.5, 2.5, -4.5: of the equal ones the first goes.
    pruner.prune_iteration_start()
    assert kept(model) == [3, 4]
    with pytest.raises(InputError, match="there are 2 rounds after round 0"):
        pruner.prune_iteration_start()


def test_survivors_of_each_round_to_the_weight(data):
    model = conv_net()
    model.compile(keras.optimizers.Adam(0.01), LOSS)
    initial = model.get_weights()
    config = [{"prune_iterations": 5, "sparsity": 0.8, "op_types": ["default"]}]
    pruner = LotteryTicketPruner(model, config, model.optimizer)
    pruner.compress()
    survivors, masks = [], None
    for _ in pruner.get_prune_iterations():
        pruner.prune_iteration_start()
        rows = pruner.get_pruned_weights()
        survivors.append([row.weights - row.removed for row in rows])
        if masks is not None:  # nested
            assert all((masks[name] | ~mask).all() for name, mask in pruner.masks.items())
        masks = pruner.masks
        names = [variable.path for variable in model.variables if variable.trainable or "moving" in variable.path]
        for name, value, first in zip(names, model.get_weights(), initial, strict=True):
            np.testing.assert_array_equal(value, first * masks.get(name, 1))
        assert all(not np.any(variable) for variable in model.optimizer.variables if variable.path.endswith("momentum"))
        model.fit(*data, batch_size=16, verbose=0, callbacks=[EachStep(pruner)] if survivors[1:] else [])
    # 72, 36 and 192 weights times .2**(r / 5) = 1, .72478, .52531, .38073, .27595, .2; what is removed is rounded down
    assert [counts[0] for counts in survivors] == [72, 53, 38, 28, 20, 15]
    assert [counts[1] for counts in survivors] == [36, 27, 19, 14, 10, 8]
    assert [counts[2] for counts in survivors] == [192, 140, 101, 74, 53, 39]


def test_without_reset_the_trained_weights_stay():
    model = linear(WEIGHTS[:4])
    optimizer = keras.optimizers.SGD(0.5)
    pruner = LotteryTicketPruner(model, ROUNDS, optimizer, reset_weights=False)
    pruner.compress()
    pruner.prune_iteration_start()
    model.layers[0].kernel.assign(WEIGHTS[:4] * 10)
    optimizer.learning_rate.assign(0.01)
    pruner.prune_iteration_start()
    assert kept(model) == [50, 60, 70, 80]
    assert float(optimizer.learning_rate) == 0.5
    assert pruner.first_epoch == 0


def test_rewinding_to_a_later_epoch_restores_everything_of_that_moment(data):
    model = conv_net()
    schedule = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=0, factor=0.5, min_delta=10.0)
    model.compile(keras.optimizers.Adam(0.01), LOSS)
    pruner = LotteryTicketPruner(model, ROUNDS, model.optimizer, lr_scheduler=schedule, rewind_epoch=2)
    pruner.compress()
    pruner.prune_iteration_start()
    assert pruner.first_epoch == 0
    at_two = {}
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: (
            epoch == 2
            and at_two.update(
                weights=model.get_weights(),
                optimizer=[v.numpy() for v in model.optimizer.variables],
                wait=schedule.wait,
            )
        )
    )
    model.fit(*data, batch_size=16, epochs=4, verbose=0, callbacks=[schedule, pruner.callback(), watch])
    assert float(model.optimizer.learning_rate) < 0.01
    schedule.wait = 17
    pruner.prune_iteration_start()
    assert pruner.first_epoch == 2
    for variable, value in zip(model.optimizer.variables, at_two["optimizer"], strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for layer in ("norm", "fc"):
        ours = model.get_layer(layer).get_weights()
        assert any(np.any(value) for value in ours)
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, at_two["weights"][3])
    assert schedule.wait == at_two["wait"]
    assert_held(pruner)


def test_rewinding_to_an_epoch_that_was_never_told_is_refused():
    model = linear()
    pruner = LotteryTicketPruner(model, ROUNDS, keras.optimizers.SGD(), rewind_epoch=3)
    pruner.compress()
    pruner.prune_iteration_start()
    pruner.update_epoch(2)
    with pytest.raises(InputError, match=r"rewind_epoch=3 needs update_epoch\(3\) in round 0"):
        pruner.prune_iteration_start()


def test_rounds_must_be_the_same_everywhere():
    with pytest.raises(InputError, match=r"prune_iterations must be the same in all entries. Received: \[2, 3\]"):
        LotteryTicketPruner(
            conv_net(), [*ROUNDS, {"prune_iterations": 3, "sparsity": 0.5, "op_names": "fc"}], keras.optimizers.SGD()
        )


@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_a_lottery_needs_the_optimizer(optimizer):
    with pytest.raises(InputError, match="optimizer must be"):
        LotteryTicketPruner(conv_net(), ROUNDS, optimizer)


# Files, and what was asked wrongly.


def test_saved_masks_and_model_go_on_in_another_process(data, tmp_path):
    model = conv_net()
    model.compile(keras.optimizers.Adam(0.01), LOSS)
    pruner = AGP_Pruner(model, GRADUAL)
    pruner.compress()
    model.fit(*data, batch_size=16, epochs=3, verbose=0, callbacks=[pruner.callback()])
    pruner.export_model(tmp_path / "half.keras", tmp_path / "half.npz")

    again = keras.models.load_model(tmp_path / "half.keras")
    resumed = AGP_Pruner(again, GRADUAL).load_masks(tmp_path / "half.npz")
    for name, mask in resumed.masks.items():
        np.testing.assert_array_equal(mask, pruner.masks[name])
    for one, trained in ((model, pruner), (again, resumed)):
        keras.utils.set_random_seed(3)
        one.fit(*data, batch_size=16, initial_epoch=3, epochs=5, verbose=0, shuffle=False,
                callbacks=[trained.callback()])  # fmt: skip
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_held(resumed)


def test_weights_alone_are_saved_too(tmp_path):
    model = linear()
    pruner = LevelPruner(model, EVERYTHING)
    pruner.compress()
    pruner.export_model(tmp_path / "small.weights.h5")
    other = linear(np.zeros_like(WEIGHTS))
    other.load_weights(tmp_path / "small.weights.h5")
    assert kept(other) == [8, 9, 10]
    assert [path.name for path in tmp_path.iterdir()] == ["small.weights.h5"]


def test_an_exported_model_has_no_negative_zeros(tmp_path):
    model = linear()
    pruner = LevelPruner(model, EVERYTHING)
    pruner.compress()
    pruner.export_model(tmp_path / "small.keras")
    kernel = keras.models.load_model(tmp_path / "small.keras").layers[0].kernel.numpy()
    assert not np.signbit(kernel[kernel == 0]).any()


def test_weights_that_were_assigned_since_are_told_and_masked_again(tmp_path):
    model = linear()
    pruner = LevelPruner(model, EVERYTHING)
    pruner.compress()
    model.set_weights([WEIGHTS])
    with pytest.warns(UserWarning, match="were not 0 any more"):
        pruner.export_model(tmp_path / "small.keras")
    assert kept(model) == [8, 9, 10]


def test_the_table_has_a_line_for_each_kernel_and_a_total():
    model = conv_net()
    pruner = LevelPruner(model, [{"sparsity": 0.5}])
    pruner.compress()
    table = pruner.get_pruned_weights()
    assert table.sparsity == 0.5
    text = str(table)
    assert [line.split()[-3:] for line in text.splitlines() if line and line.split()[-1] == "50.0%"] == [
        ["72", "36", "50.0%"], ["36", "18", "50.0%"], ["192", "96", "50.0%"], ["300", "150", "50.0%"],
    ]  # fmt: skip
    assert table[0]._asdict() == {
        "layer": "conv", "kernel": "conv/kernel", "op_type": "Conv2D", "shape": (3, 3, 2, 4), "weights": 72,
        "removed": 36,
    }  # fmt: skip


@pytest.mark.parametrize("pruner_class", [LevelPruner, AGP_Pruner, LotteryTicketPruner])
def test_compress_may_be_called_once(pruner_class):
    config = {"LevelPruner": EVERYTHING, "AGP_Pruner": GRADUAL, "LotteryTicketPruner": ROUNDS}[pruner_class.__name__]
    pruner = pruner_class(linear(), config, keras.optimizers.SGD())
    pruner.compress()
    with pytest.raises(InputError, match="once"):
        pruner.compress()


@pytest.mark.parametrize("epoch", [-1, 1.5, None, "3", True])
def test_an_epoch_is_a_whole_number_from_0(epoch):
    pruner = AGP_Pruner(linear(), GRADUAL)
    pruner.compress()
    with pytest.raises(InputError, match="epoch must be a whole number, at least 0. Received: "):
        pruner.update_epoch(epoch)


@pytest.mark.parametrize(
    "use",
    [
        lambda pruner, path: pruner.update_epoch(1),
        lambda pruner, path: pruner.get_pruned_weights(),
        lambda pruner, path: pruner.export_model(path / "a.keras"),
        lambda pruner, path: pruner.apply_masks(),
    ],
)
def test_compress_comes_first(use, tmp_path):
    with pytest.raises(InputError, match=r"call compress\(\) or load_masks\(\) first"):
        use(AGP_Pruner(linear(), GRADUAL), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "mask_path", "message"),
    [("a.h5", None, "path must end in .keras or .weights.h5"), ("a.keras", "a.pkl", "mask_path must end in .npz")],
)
def test_names_of_files_are_checked_before_anything_is_written(path, mask_path, message, tmp_path):
    pruner = LevelPruner(linear(), EVERYTHING)
    pruner.compress()
    with pytest.raises(InputError, match=message):
        pruner.export_model(tmp_path / path, mask_path and tmp_path / mask_path)
    assert list(tmp_path.iterdir()) == []


def test_wrong_files_of_masks_are_refused_and_nothing_changes(tmp_path):
    model = linear()
    pruner = LevelPruner(model, EVERYTHING)
    with pytest.raises(InputError, match=f"there is no file of masks at {tmp_path}"):
        pruner.load_masks(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no masks")
    with pytest.raises(InputError, match="cannot be read as masks"):
        pruner.load_masks(tmp_path / "text.npz")
    np.savez(tmp_path / "pickled.npz", **{"fc/kernel": np.array([None])})
    with pytest.raises(InputError, match="cannot be read as masks"):
        pruner.load_masks(tmp_path / "pickled.npz")
    name = next(iter(pruner._kernels))
    for masks, message in [
        ({name: np.ones((3, 2), bool)}, r"must be \(5, 2\). Received: \(3, 2\)"),
        ({}, r"must be \(5, 2\). Received: none"),
        ({name: np.ones((5, 2), bool), "other": np.ones(3, bool)}, r"of other must be none. Received: \(3,\)"),
        ({name: np.ones((5, 2), np.float32)}, "must be of booleans. Received: float32"),
    ]:
        np.savez(tmp_path / "masks.npz", **masks)
        with pytest.raises(InputError, match=message):
            pruner.load_masks(tmp_path / "masks.npz")
    assert kept(model) == list(range(1, 11))
    pruner.compress()  # still possible


def test_nan_is_refused_and_the_model_let_go_of():
    weights = WEIGHTS.copy()
    weights[0, 0] = np.nan
    model = linear(weights)
    with pytest.raises(InputError, match="NaN in"):
        LevelPruner(model, EVERYTHING).compress()
    assert model.layers[0].kernel.constraint is None


def test_the_api_needs_no_flags_and_no_directory(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import compressors.pruner_api; import trimflow; "
        "assert trimflow.LevelPruner is compressors.pruner_api.LevelPruner; "
        "from absl import flags; print(sorted(name for name in flags.FLAGS if name.startswith('ws_')))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[]", result.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []
