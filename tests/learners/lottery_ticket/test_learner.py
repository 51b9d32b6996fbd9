import json
from typing import NamedTuple

import keras
import numpy as np
import pytest

import utils.run_dir
from compressors.policies import Policy
from export import plots
from learners import trainer as trainers
from learners.full_precision import FullPrecisionLearner
from learners.lottery_ticket.learner import LotteryTicketLearner
from learners.network_files import load_network
from learners.train_step import TrainStep
from learners.training import Monitor, train
from learners.variables import named_arrays
from tests.small_helper import NUM_EPOCHS, STEPS_PER_EPOCH, SmallHelper, lottery_config
from utils.checkpoints import read_checkpoint
from utils.errors import InputError, RunError
from utils.run_dir import RunDir

TOTAL = NUM_EPOCHS * STEPS_PER_EPOCH
# floor((1 - 0.2 ** (r / 3)) * size) of 108 and 12 weights: 44.84, 71.06, 86.4 and 4.98, 7.90, 9.6
REMOVED = {"conv/kernel": [0, 44, 71, 86], "fc/kernel": [0, 4, 7, 9]}


@pytest.fixture(scope="module", autouse=True)
def _no_pictures_of_trainings():
    """They take as long as these trainings do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "plot_training", lambda *args: None)
        yield


def make(directory, helper=SmallHelper, learner=LotteryTicketLearner, **options):
    config = lottery_config(**options)
    run_dir = RunDir(directory)
    run_dir.open({})
    return learner(config, helper(config.net), run_dir)


class Begun(NamedTuple):
    """A training as it began: its step, and what the variables held."""

    step: TrainStep
    first_step: int
    weights: dict
    optimizer: dict


class Finished(NamedTuple):
    """A run in a directory, how each of its trainings began, and what each gave."""

    directory: object
    epoch: int
    begun: list
    results: list


@pytest.fixture(scope="module", params=[0, 1], ids=["initial weights", "weights of epoch 1"])
def finished(request, tmp_path_factory):
    directory, begun, results = tmp_path_factory.mktemp("lottery") / "run", [], []

    def watched(step, *args, first_step=0, **options):
        slots = {v.name: np.asarray(v.value) for v in step.optimizer.variables}
        begun.append(Begun(step, first_step, named_arrays(step.model.variables), slots))
        results.append(train(step, *args, first_step=first_step, **options))
        return results[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers, "train", watched)
        make(directory, rewind_epoch=request.param).run()
    return Finished(directory, request.param, begun, results)


def network(directory, number):
    """The network of a round; 0 is the dense one."""
    folder = f"round_{number}" if number else "dense"
    return named_arrays(keras.models.load_model(directory / folder / "model.keras").weights)


def report(directory):
    return json.loads((directory / "report.json").read_text())


def stages(directory):
    return json.loads((directory / "stages.json").read_text())


def test_the_survivors_of_each_round_are_counted_to_the_weight(finished):
    for number in range(4):
        weights = network(finished.directory, number)
        zeros = {path: int(np.sum(weights[path] == 0)) for path in REMOVED}
        assert zeros == {path: counts[number] for path, counts in REMOVED.items()}


def test_the_masks_are_nested_and_take_the_smallest_weights_of_the_round_before(finished):
    for number in (1, 2, 3):
        before, after = network(finished.directory, number - 1), network(finished.directory, number)
        for path in REMOVED:
            removed = after[path] == 0
            assert removed[before[path] == 0].all()
            magnitudes = np.abs(before[path])
            assert magnitudes[removed].max() <= magnitudes[~removed].min()


def trained_for(steps, tmp_path):
    """The network and its optimizer after so many steps of plain training from the initial weights."""
    learner = make(tmp_path / "plain")
    model, policy = learner.new_model(), Policy()
    step = learner.trainer.step(model, policy, learner.optimizer())
    if steps:
        train(
            step, policy, learner.helper.training_batches, learner.trainer.learning_rates()[:steps],
            tmp_path / "plain" / "checkpoint.npz", Monitor(100, 100, quiet=True), title="", steps_per_epoch=3,
        )  # fmt: skip
    return named_arrays(model.variables), {v.name: np.asarray(v.value) for v in step.optimizer.variables}


def test_each_round_begins_with_the_rewound_weights_and_momenta_times_the_mask(finished, tmp_path):
    weights, slots = trained_for(finished.epoch * STEPS_PER_EPOCH, tmp_path)
    assert len(finished.begun) == 4  # the dense training and three rounds
    for number, begun in enumerate(finished.begun[1:], start=1):
        masks = {path: network(finished.directory, number)[path] != 0 for path in REMOVED}
        for path, value in weights.items():
            np.testing.assert_array_equal(begun.weights[path], value * masks.get(path, 1), err_msg=path)
        for name, value in slots.items():
            mask = {"conv_kernel_momentum": "conv/kernel", "fc_kernel_momentum": "fc/kernel"}.get(name)
            expected = value if mask is None else value * masks[mask]
            if name != "learning_rate":  # set anew at every step
                np.testing.assert_array_equal(begun.optimizer[name], expected, err_msg=name)


def test_each_round_trains_from_that_epoch_on_at_the_recipes_rates(finished):
    first = finished.epoch * STEPS_PER_EPOCH
    assert [begun.first_step for begun in finished.begun] == [0, first, first, first]
    for result in finished.results[1:]:
        assert [row["step"] for row in result.history] == list(range(first + 1, TOTAL + 1))
        rates = [row["learning_rate"] for row in result.history]
        np.testing.assert_allclose(rates, [0.1 / (1 + step) for step in range(first, TOTAL)], rtol=1e-6)
        assert result.iterations == TOTAL - first


def test_the_dense_network_is_trained_as_by_any_other_learner(finished, tmp_path):
    make(tmp_path / "run", learner=FullPrecisionLearner).run()
    np.testing.assert_equal(network(finished.directory, 0), network(tmp_path / "run", 0))


def test_all_rounds_share_one_trace(finished):
    dense, *rounds = [begun.step for begun in finished.begun]
    assert len({id(step) for step in rounds}) == 1
    assert (dense.trace_count, rounds[0].trace_count) == (1, 1)


def test_the_report_has_each_round_and_the_result_is_the_last(finished):
    found = report(finished.directory)
    total = 108 + 12
    removed = [sum(counts[number] for counts in REMOVED.values()) for number in range(4)]
    assert [row["round"] for row in found["rounds"]] == [0, 1, 2, 3]
    np.testing.assert_allclose([row["sparsity"] for row in found["rounds"]], [count / total for count in removed])
    for row, result in zip(found["rounds"], finished.results, strict=True):
        assert row["validation_accuracy"] == result.history[-1]["validation_accuracy"]
        assert row["seconds"] == result.seconds
    assert found["rounds"][0]["accuracy"] == found["dense"]["accuracy"]
    assert found["compressed"] == {"accuracy": found["rounds"][3]["accuracy"], "sparsity": pytest.approx(95 / total)}
    assert [round(row["sparsity"] * row["parameters"]) for row in found["layers"]] == [86, 9]
    assert [row["target_ratio"] for row in found["layers"]] == [0.8, 0.8]
    assert found["training"]["iterations"] == TOTAL - finished.epoch * STEPS_PER_EPOCH
    assert [stage["name"] for stage in found["stages"]] == ["dense", "round_1", "round_2", "round_3", "report"]
    result = named_arrays(keras.models.load_model(finished.directory / "model.keras").weights)
    np.testing.assert_equal(result, network(finished.directory, 3))


def test_the_reported_accuracy_is_that_of_the_kept_networks(finished, tmp_path):
    learner = make(tmp_path / "run")
    for row in report(finished.directory)["rounds"]:
        model = learner.new_model()
        folder = f"round_{row['round']}" if row["round"] else "dense"
        load_network(finished.directory / folder / "model.keras", model)
        assert learner.test(model)["accuracy"] == row["accuracy"]


def test_only_the_last_round_keeps_where_its_training_stood(finished):
    kept = sorted(path.parent.name for path in finished.directory.glob("round_*/checkpoint.npz"))
    assert kept == ["round_3"]


def test_the_same_command_again_repeats_nothing(finished, monkeypatch):
    monkeypatch.setattr(trainers, "train", lambda *args, **options: pytest.fail("trained again"))
    before = report(finished.directory)
    make(finished.directory, rewind_epoch=finished.epoch).run()
    assert report(finished.directory) == before


# Killed and started again.


class _PullThePlug(Exception):
    pass


def _killed_when(directory, moment, when, monkeypatch, **options):
    """Runs until the file `moment` is written for the `when`-th time in this process, and dies before or after that."""
    name, is_after = moment
    seen = 0

    def replace(temporary, path, real=utils.run_dir.os.replace):
        nonlocal seen
        is_it = str(path).endswith(f"/{name}")
        seen += is_it
        if is_it and seen == when and not is_after:
            raise _PullThePlug
        real(temporary, path)
        if is_it and seen == when:
            raise _PullThePlug

    with monkeypatch.context() as patch:
        patch.setattr(utils.run_dir.os, "replace", replace)
        with pytest.raises(_PullThePlug):
            make(directory, **options).run()


def test_damaged_checkpoints_of_finished_rounds_are_trained_to_their_ends_again(tmp_path, monkeypatch, capsys):
    """Else the next round would prune, and the report show, a network from some steps before the end."""
    options = {"rounds": 2, "rewind_epoch": 1}
    make(tmp_path / "whole", **options).run()
    _killed_when(tmp_path / "damaged", ("stages.json", True), 2, monkeypatch, **options)  # dense, round 1
    for number in (1, 2):
        path = tmp_path / "damaged" / f"round_{number}" / "checkpoint.npz"
        path.write_bytes(path.read_bytes()[:-1])
        make(tmp_path / "damaged", **options).run()
        assert f"{path} is damaged" in capsys.readouterr().err
        np.testing.assert_equal(network(tmp_path / "damaged", number), network(tmp_path / "whole", number))
    whole, damaged = (without_times(report(tmp_path / name)) for name in ("whole", "damaged"))
    assert damaged == whole


def without_times(found):
    """The report without what is a time."""
    rounds = [{key: value for key, value in row.items() if key != "seconds"} for row in found["rounds"]]
    stages = [stage["name"] for stage in found["stages"]]
    return found | {"rounds": rounds, "stages": stages, "training": found["training"]["iterations"]}


def test_a_run_that_keeps_its_dense_network_elsewhere_can_go_on(tmp_path, monkeypatch):
    options = {"rounds": 1, "save_path": str(tmp_path / "dense.keras")}
    for moment in (("dense.keras", True), ("stages.json", True)):  # the file is there, the stage is not finished, is
        make(tmp_path / "run", **options).check()
        _killed_when(tmp_path / "run", moment, 1, monkeypatch, **options)
    learner = make(tmp_path / "run", **options)
    learner.check()
    learner.run()
    assert stages(tmp_path / "run")["dense"]["source"] == "trained"
    kept = named_arrays(keras.models.load_model(tmp_path / "dense.keras").weights)
    np.testing.assert_equal(kept, network(tmp_path / "run", 0))


@pytest.mark.parametrize("name", ["dense/rewind.npz", "round_1/checkpoint.npz"])
def test_a_file_that_a_round_needs_and_that_is_gone_is_named(tmp_path, monkeypatch, name):
    _killed_when(tmp_path / "run", ("round_2/checkpoint.npz", False), 1, monkeypatch, rounds=2)
    for path in (tmp_path / "run").glob(name.replace(".npz", "*.npz")):
        path.unlink()
    with pytest.raises(RunError, match=rf"there is no .*{name}.*; --overwrite starts anew"):
        make(tmp_path / "run", rounds=2).run()


# A network that comes with trained weights.


class TrainedHelper(SmallHelper):
    has_trained_weights = True
    weights_source = "somewhere"

    def build_model(self):
        model = super().build_model()
        kernel = model.get_layer("conv").kernel
        kernel.assign(np.linspace(-1, 1, 108, dtype=np.float32).reshape(kernel.shape))
        return model


def test_given_trained_weights_are_told_and_are_what_a_round_goes_back_to(tmp_path, capsys):
    learner = make(tmp_path / "run", TrainedHelper, rounds=1, quiet=False)
    learner.check()
    learner.run()
    accuracy = learner.test(learner.new_model())["accuracy"]
    assert f"dense network (somewhere, as given): test accuracy {accuracy:.4f}" in capsys.readouterr().out
    dense = stages(tmp_path / "run")["dense"]
    assert dense["iterations"] == TOTAL  # they are trained on first
    point = read_checkpoint(tmp_path / "run" / "dense" / "rewind.npz").arrays
    np.testing.assert_array_equal(point["model/conv/kernel"].ravel(), np.linspace(-1, 1, 108, dtype=np.float32))


# Bad input.


class NoKernelHelper(SmallHelper):
    def build_model(self):
        images = keras.Input((6, 6, 3))
        return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rewind_epoch": 3},
            "--lt_rewind_epoch must be below the number of epochs of a training, 3. Received: 3",
        ),
        ({"model_http_url": "http://localhost/"}, "--model_http_url must be empty: .* Received: 'http://localhost/'"),
        ({"warm_start": False}, "--enbl_warm_start must be true with --learner lottery-ticket. Received: false"),
        ({"save_path": "dense.h5"}, "--save_path must end in .keras. Received: 'dense.h5'"),
        ({"helper": NoKernelHelper}, "must have a Conv2D or Dense layer to prune. Received: none"),
    ],
    ids=["epoch", "address", "cold start", "file name", "nothing to prune"],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        make(tmp_path / "run", **options).check()


def test_the_last_epoch_can_be_rewound_to(tmp_path):
    make(tmp_path / "run", rewind_epoch=2).check()


def test_a_dense_model_from_elsewhere_is_refused_also_over_an_older_run(finished, tmp_path):
    given = finished.directory / "dense" / "model.keras"
    with pytest.raises(
        InputError, match="--save_path must not exist yet: .* must train it itself. Received: .*model.keras"
    ):
        make(tmp_path / "run", save_path=str(given)).check()
    with pytest.raises(InputError, match="--save_path must not exist yet"):
        make(finished.directory, save_path=str(given), overwrite=True).check()


def test_a_round_is_told_as_it_begins(tmp_path, capsys):
    make(tmp_path / "run", rounds=2, rewind_epoch=1, quiet=False).run()
    printed = capsys.readouterr().out
    assert "round 1 of 2: 54.2% removed, training from epoch 1 to 3" in printed  # 59 + 6 of 120
    assert "round 2 of 2: 79.2% removed, training from epoch 1 to 3" in printed
