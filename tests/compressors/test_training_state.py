import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.training_state import TrainingState


@pytest.fixture
def training():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), keras.layers.BatchNormalization()])
    optimizer = keras.optimizers.Adam(0.5)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def step(model, optimizer):
    optimizer.apply([tf.ones(variable.shape) for variable in model.trainable_variables], model.trainable_variables)
    model.layers[1].moving_mean.assign([7.0])
    optimizer.learning_rate.assign(0.001)


def values(model, optimizer):
    return [variable.numpy() for variable in (*model.variables, *optimizer.variables)]


def test_weights_statistics_and_the_whole_optimizer_come_back(training):
    before = values(*training)
    state = TrainingState(*training)
    step(*training)
    assert any(np.any(a != b) for a, b in zip(values(*training), before, strict=True))
    state.restore()
    for now, then in zip(values(*training), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_it_can_be_gone_back_to_again_and_again(training):
    state, before = TrainingState(*training), values(*training)
    for _ in range(2):
        step(*training)
        state.restore()
    for now, then in zip(values(*training), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_weights_can_be_left_as_they_are(training):
    model, optimizer = training
    state = TrainingState(model, optimizer)
    step(model, optimizer)
    trained = model.get_weights()
    state.restore(with_weights=False)
    for now, then in zip(model.get_weights(), trained, strict=True):
        np.testing.assert_array_equal(now, then)
    assert int(optimizer.iterations) == 0
    assert float(optimizer.learning_rate) == 0.5


class WithStateDict:
    def __init__(self):
        self._hidden = {"step": 0, "history": []}

    def state_dict(self):
        return self._hidden

    def load_state_dict(self, state):
        self._hidden = state


def test_a_scheduler_with_a_state_dict_is_asked_for_it(training):
    scheduler = WithStateDict()
    state = TrainingState(*training, scheduler)
    scheduler._hidden["step"] = 3
    scheduler._hidden["history"].append(0.1)
    state.restore()
    assert scheduler._hidden == {"step": 0, "history": []}


def test_of_other_schedulers_the_plain_attributes_come_back(training):
    scheduler = keras.callbacks.ReduceLROnPlateau()
    scheduler.set_model(training[0])
    scheduler.seen = [1, 2]
    state = TrainingState(*training, scheduler)
    scheduler.wait, scheduler.best = 5, -1.0
    scheduler.seen.append(3)
    state.restore()
    assert (scheduler.wait, scheduler.seen) == (0, [1, 2])
    assert scheduler.best != -1.0
    assert scheduler.model is training[0]


@pytest.mark.parametrize("scheduler", [None, keras.optimizers.schedules.CosineDecay(0.1, 10), lambda epoch: 0.1])
def test_a_scheduler_without_state_is_fine(training, scheduler):
    TrainingState(*training, scheduler).restore()
