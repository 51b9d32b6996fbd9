"""--enbl_dst in the training loop and in the learners."""

import dataclasses
import functools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.distillation import Teacher
from compressors.policies import Policy, Replacement
from datasets.config import DataConfig
from export import plots
from export.config import ExportConfig
from learners import teacher as teachers
from learners.config import RunConfig, RunOptions, TeacherConfig
from learners.lottery_ticket.config import LotteryTicketConfig
from learners.lottery_ticket.learner import LotteryTicketLearner
from learners.network_files import load_network
from learners.scheduled.config import ScheduleConfig
from learners.scheduled.learner import ScheduledLearner
from learners.teacher import OWN_DENSE, TeacherSource, check_fits
from learners.train_step import TrainStep
from learners.trainer import Trainer
from learners.training import Monitor, train
from learners.variables import named_arrays
from learners.weight_sparsification.config import WeightSparseConfig
from learners.weight_sparsification.learner import WeightSparseLearner
from learners.weight_sparsification.rollout_eval import FineTuner
from nets.config import NetConfig, NetworkConfig
from tests.small_helper import NUM_EPOCHS, STEPS_PER_EPOCH, SmallHelper
from tests.small_training import conv_net, cross_entropy, image_batches
from utils.checkpoints import read_checkpoint
from utils.errors import InputError
from utils.run_dir import RunDir


def two_classes(kernel):
    """Logits `[B, 2]` of one number: `x @ kernel`."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="fc")(inputs))
    model.set_weights([np.array([kernel], np.float32)])
    return model


def test_a_step_learns_from_labels_and_teacher_by_the_formula():
    """T = 4: the teacher says (3/4, 1/4), the student (1/2, 1/2); the label is class 0, the weight 2."""
    student, teacher = two_classes([0, 0]), two_classes([4 * math.log(3), 0])
    data = tf.data.Dataset.from_tensors((tf.ones([1, 1]), tf.constant([0]))).repeat()
    step = TrainStep(student, keras.optimizers.SGD(0.0), cross_entropy, Policy(), teacher=Teacher(teacher, 2.0, 4.0))
    done = step.run(iter(data), np.array([0.5]))
    np.testing.assert_allclose(done.losses, [math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(done.divergences, [0.75 * math.log(1.5) + 0.25 * math.log(0.5)], rtol=1e-5)
    # The gradient of the cross entropy is (-1/2, 1/2), that of the divergence (1/2 - 3/4, 1/2 - 1/4) / T.
    expected = -0.5 * np.array([[-0.5 - 2 * 0.25 / 4, 0.5 + 2 * 0.25 / 4]])
    np.testing.assert_allclose(student.get_weights()[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(teacher.get_weights()[0], np.array([[4 * math.log(3), 0]], np.float32))


def test_the_teacher_stays_where_another_network_takes_the_students_place():
    student, teacher = two_classes([0, 0]), two_classes([4 * math.log(3), 0])
    data = tf.data.Dataset.from_tensors((tf.ones([1, 1]), tf.constant([0]))).repeat()
    step = TrainStep(student, keras.optimizers.SGD(0.0), cross_entropy, Policy(), teacher=Teacher(teacher, 2.0, 4.0))
    before = step.run(iter(data), np.array([0.0]))
    step.adopt(Replacement(two_classes([4 * math.log(3), 0]), keras.optimizers.SGD(0.0)))
    after = step.run(iter(data), np.array([0.0]))
    assert before.divergences[0] > 0.1
    assert after.divergences[0] == pytest.approx(0, abs=1e-6)


def test_what_is_fine_tuned_in_the_search_learns_from_the_teacher_too():
    """Label and teacher disagree, and the teacher has far more weight: Adam's steps have its sign."""
    student, teacher = two_classes([1, 1]), two_classes([-40, 40])
    data = tf.data.Dataset.from_tensors((tf.ones([1, 1]), tf.constant([0]))).repeat()
    FineTuner(student, lambda start: data, cross_entropy, 0.01, 0.0, teacher=Teacher(teacher, 100.0, 4.0)).run(2)
    first, second = student.get_weights()[0][0]
    assert first < 1 < second


@functools.cache
def conv_teacher():
    keras.utils.set_random_seed(7)
    return conv_net()


def train_with(teacher, checkpoint, on_row=lambda row: None, seed=0):
    keras.utils.set_random_seed(seed)
    optimizer = keras.optimizers.SGD(0.0, momentum=0.9)
    step = TrainStep(conv_net(), optimizer, cross_entropy, Policy(), teacher=teacher)
    monitor = Monitor(3, 4, on_row, quiet=True)
    rates = np.full(9, 0.1, np.float32)
    result = train(step, Policy(), image_batches, rates, checkpoint, monitor, title="t", steps_per_epoch=9)
    return result, step


def test_a_killed_training_with_a_teacher_ends_like_one_that_was_not(tmp_path):
    teacher = Teacher(conv_teacher())
    before = named_arrays(teacher.model.variables)
    whole, step = train_with(teacher, tmp_path / "whole.npz")
    assert step.trace_count == 1
    assert all(row["distillation_loss"] > 0 for row in whole.history)
    for name, array in named_arrays(teacher.model.variables).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)

    def die(row):
        if row["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_with(teacher, tmp_path / "killed.npz", die)
    kept = read_checkpoint(tmp_path / "killed.npz")
    assert kept.meta["step"] == 4  # one step after the last row
    assert kept.meta["divergence_sum"] > 0
    assert not any("teacher" in name for name in kept.arrays)
    resumed, other = train_with(teacher, tmp_path / "killed.npz", seed=1)
    assert resumed.history == whole.history
    for name, array in named_arrays(step.model.variables).items():
        np.testing.assert_array_equal(named_arrays(other.model.variables)[name], array, err_msg=name)


def test_without_a_teacher_there_is_no_loss_against_one(tmp_path):
    result, _ = train_with(None, tmp_path / "checkpoint.npz")
    assert not any("distillation_loss" in row for row in result.history)


# Learners.

LEARNERS = {
    "weight-sparse": WeightSparseLearner,
    "scheduled": ScheduledLearner,
    "lottery-ticket": LotteryTicketLearner,
}
SCHEDULE = """
pruners: {p: {class: SparsityLevelParameterPruner, levels: {conv/kernel: 0.5}}}
policies: [{pruner: {instance_name: p}, epochs: [0]}]
"""


def learner(kind, directory):
    schedule = directory.parent / f"{directory.name}.yaml"
    schedule.write_text(SCHEDULE)
    config = RunConfig(
        RunOptions(learner=kind, quiet=True, summary_interval=1),
        NetConfig(DataConfig(batch_size=8)),
        TeacherConfig(enabled=True),
        WeightSparseConfig(prune_ratio=0.5, prune_ratio_protocol="uniform", train_init="dense"),
        schedule=ScheduleConfig(str(schedule) if kind == "scheduled" else ""),
        lottery_ticket=LotteryTicketConfig(prune_ratio=0.5, num_rounds=2),
        export=ExportConfig(formats="none"),
    )
    config.check()
    run_dir = RunDir(directory)
    run_dir.open({})
    return LEARNERS[kind](config, SmallHelper(config.net), run_dir)


@pytest.fixture(autouse=True)
def _no_pictures_of_trainings(monkeypatch):
    """They take as long as these trainings do."""
    monkeypatch.setattr(plots, "plot_training", lambda *args: None)
    monkeypatch.setattr(plots, "plot_ratios", lambda *args: None)


def history(directory, stage):
    return read_checkpoint(directory / stage / "checkpoint.npz").meta["history"]


@pytest.mark.parametrize(
    ("kind", "stages"),
    [("weight-sparse", ["training"]), ("scheduled", ["training"]), ("lottery-ticket", ["round_2"])],
)
def test_each_learner_learns_from_its_dense_network_and_reports_it(tmp_path, monkeypatch, kind, stages):
    directory = tmp_path / "run"
    run = learner(kind, directory)
    run.check()
    given = []
    make_step = Trainer.step

    def step(*args):
        given.append(args[4] if len(args) > 4 else None)
        return make_step(*args)

    monkeypatch.setattr(Trainer, "step", step)
    run.run()
    assert json.loads((directory / "report.json").read_text())["distillation"] == {
        "teacher": OWN_DENSE,
        "loss_weight": 4.0,
        "temperature": 4.0,
    }
    assert not any("distillation_loss" in row for row in history(directory, "dense"))
    for stage in stages:
        rows = history(directory, stage)
        assert len(rows) == STEPS_PER_EPOCH * NUM_EPOCHS
        assert all(row["distillation_loss"] > 0 for row in rows)
    dense = run.new_model()
    load_network(directory / "dense" / "model.keras", dense)
    teacher = next(teacher for teacher in given if teacher is not None)
    for kept, found in zip(dense.get_weights(), teacher.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, kept)


class SizedHelper(SmallHelper):
    """A network that --resnet_size says the width of."""

    @property
    def model_name(self):
        return f"small_{self.config.network.resnet_size}"

    def build_model(self):
        if self.config.network.resnet_size == 19:
            raise InputError("--resnet_size must be another. Received: 19")
        images = keras.Input((6, 6, 3))
        x = keras.layers.Conv2D(self.config.network.resnet_size, 3)(images)  # without a name
        return keras.Model(images, keras.layers.Dense(3, name="fc")(keras.layers.GlobalMaxPooling2D(name="pool")(x)))


def source(directory, helper=SizedHelper, url="", **teacher):
    config = RunConfig(RunOptions(model_http_url=url), teacher=TeacherConfig(enabled=True, **teacher))
    return TeacherSource(config, helper(config.net), RunDir(directory))


def network(resnet_size=20, **changes):
    config = NetConfig(network=NetworkConfig(resnet_size=resnet_size))
    return SizedHelper(dataclasses.replace(config, **changes)).build_model()


def teacher_of(shape=(6, 6, 3), classes=3, factor=1.0):
    images = keras.Input(shape)
    logits = keras.layers.Dense(classes, name="fc")(keras.layers.GlobalAveragePooling2D(name="pool")(images))
    return keras.Model(images, keras.layers.Rescaling(factor, name="scale")(logits))


def test_a_teacher_of_another_size_is_found_beside_the_run(tmp_path):
    directory = tmp_path / "small_20_at_noise" / "weight-sparse"
    kept = tmp_path / "small_34_at_noise" / "full-prec" / "model.keras"
    keras.backend.clear_session(free_memory=False)
    made = network(34)
    kept.parent.mkdir(parents=True)
    made.save(kept)
    found = source(directory, resnet_size=34)
    network()  # Keras counts the layers that have no name
    found.check(network())
    teacher = found.load(network())
    for mine, theirs in zip(teacher.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert found.name == "small_34"
    before = found.identity()
    network(34).save(kept)  # other weights
    assert found.identity().keys() == before.keys() == {"save_path_dst"}
    assert found.identity() != before


def test_a_teacher_behind_an_address_is_fetched_once_the_run_has_begun(tmp_path, monkeypatch):
    keras.backend.clear_session(free_memory=False)
    made, asked = network(34), []

    def download(url, path, allow_plain_http):
        asked.append(url)
        path.parent.mkdir(parents=True)
        made.save(path)
        return path

    monkeypatch.setattr(teachers, "download", download)
    found = source(tmp_path / "run", url="https://host/models/", resnet_size=34)
    found.check(network())
    assert asked == []
    for _ in range(2):
        teacher = found.load(network())
        np.testing.assert_array_equal(teacher.get_weights()[0], made.get_weights()[0])
    assert asked == ["https://host/models/small_34_at_noise.keras"]
    assert found.identity() == {}  # the address is among the flags


def test_a_teacher_may_be_any_network_in_a_file(tmp_path):
    made, path = teacher_of(), tmp_path / "any.keras"
    made.save(path)
    found = source(tmp_path / "run", path=str(path))
    found.check(network())
    np.testing.assert_array_equal(found.load(network()).get_weights()[0], made.get_weights()[0])
    assert found.name == str(path)


@pytest.mark.parametrize(
    ("helper", "teacher", "message"),
    [
        (SizedHelper, dict(path="none.keras"), r"--enbl_dst without a teacher to be found: .*none\.keras \(--learner"),
        (SizedHelper, dict(resnet_size=34), r"--enbl_dst without a teacher .*small_34_at_noise/full-prec/model\.keras"),
        (SizedHelper, dict(resnet_size=19), "--resnet_size must be another. Received: 19"),
        (SmallHelper, dict(resnet_size=34), "--dst_resnet_size needs a net script of ResNets. Received: small"),
        (SizedHelper, dict(path=__file__), "cannot be read as a .keras model"),
        (type("Regression", (SmallHelper,), {"gives_logits": False}), {}, "--enbl_dst needs a network that gives"),
    ],
)
def test_a_teacher_that_cannot_be_had_is_refused_before_any_work(tmp_path, helper, teacher, message):
    with pytest.raises(InputError, match=message):
        source(tmp_path / "a" / "b", helper, **teacher).check(network())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(classes=5), r"the teacher must have the student's outputs, \(3,\). Received: t.keras, which has \(5,\)"),
        (dict(shape=(8, 8, 3)), r"the teacher must take the student's images, \(6, 6, 3\). .* takes \(8, 8, 3\)"),
        (dict(factor=math.inf), "the teacher's outputs must be finite numbers. Received: t.keras"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(options, message):
    images = np.full((2, *options.get("shape", (6, 6, 3))), 0.5, np.float32)
    with pytest.raises(InputError, match=message):
        check_fits(teacher_of(**options), network(), images, "t.keras")
    check_fits(teacher_of((None, None, 3)), network(), np.ones((2, 6, 6, 3), np.float32), "t.keras")
