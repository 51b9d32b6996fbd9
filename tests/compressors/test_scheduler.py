import keras
import numpy as np
import pytest
import yaml

from compressors.distillation import DistillationLossWeights, KnowledgeDistillationPolicy
from compressors.lr_schedulers import LR_SCHEDULERS
from compressors.pruners import PRUNERS
from compressors.pruning_policy import PruningPolicy
from compressors.quantizers import QUANTIZERS
from compressors.regularizers import REGULARIZERS
from compressors.scheduled_policies import LRPolicy, QuantizationPolicy, RegularizationPolicy, ScheduledPolicy
from compressors.scheduler import CompressionScheduler
from tests.small_training import (
    GRADIENT,
    STEPS_PER_EPOCH,
    WEIGHTS,
    conv_net,
    cross_entropy,
    image_batches,
    linear_model,
    run,
)
from utils.errors import InputError


def document(pruner, args=None, **timing):
    policy = {"pruner": {"instance_name": "p", **({"args": args} if args else {})}, **timing}
    return {"version": 1, "pruners": {"p": pruner}, "policies": [policy]}


def level(value, args=None, **timing):
    return document({"class": "SparsityLevelParameterPruner", "levels": {"fc.weight": value}}, args, **timing)


def weights_after(scheduler, epochs, tmp_path, **options):
    step = run(scheduler, epochs, tmp_path / "c.npz", **options)
    return step.model.get_weights()[0][:, 0]


def test_a_pruner_removes_the_smallest_weights_from_its_first_active_epoch_on(tmp_path):
    def after(epochs):
        scheduler = CompressionScheduler.from_dict(linear_model(), level(0.25, starting_epoch=1, ending_epoch=2))
        return weights_after(scheduler, epochs, tmp_path / str(epochs))

    np.testing.assert_allclose(after(1), WEIGHTS - 2 * GRADIENT, rtol=1e-6)
    np.testing.assert_allclose(after(3), (WEIGHTS - 6 * GRADIENT) * [0, 1, 1, 1], rtol=1e-5)


def test_between_active_epochs_the_mask_stays_in_force(tmp_path):
    rows = []
    scheduler = CompressionScheduler.from_dict(
        linear_model(), level(0.25, starting_epoch=0, ending_epoch=5, frequency=4)
    )
    run(scheduler, 5, tmp_path / "c.npz", on_row=lambda row: rows.append(row["sparsity"]))
    assert rows == [0.25] * (5 * STEPS_PER_EPOCH)


def test_agp_asks_for_its_level_at_each_epoch(tmp_path):
    pruner = {
        "class": "AutomatedGradualPruner",
        "initial_sparsity": 0.0,
        "final_sparsity": 0.75,
        "weights": ["fc.weight"],
    }
    rows = []
    scheduler = CompressionScheduler.from_dict(
        linear_model(), document(pruner, starting_epoch=0, ending_epoch=4, frequency=1)
    )
    run(scheduler, 4, tmp_path / "c.npz", on_row=lambda row: rows.append(row["sparsity"]))
    # .75 (1 - (1 - e/3)^3) = 0, .528, .722, .75, of four weights rounded down: 0, 2, 2, 3.
    assert rows[::STEPS_PER_EPOCH] == [0, 0.5, 0.5, 0.75]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, [0, 0, 3 - 0.6, -4 - 0.8]),
        ({"mask_on_forward_only": True}, [-0.1, -0.2, 3 - 0.6, -4 - 0.8]),
        ({"mask_on_forward_only": True, "mask_gradients": True}, [0, 0, 3 - 0.6, -4 - 0.8]),
        ({"use_double_copies": True}, WEIGHTS - 2 * GRADIENT),
        ({"use_double_copies": True, "keep_mask": True}, [0, 0, 3 - 0.6, -4 - 0.8]),
        ({"use_double_copies": True, "discard_masks_at_minibatch_end": True}, WEIGHTS - 2 * GRADIENT),
    ],
)
def test_policy_arguments_say_what_becomes_of_masked_weights_in_a_step(args, expected, tmp_path):
    scheduler = CompressionScheduler.from_dict(linear_model(), level(0.5, args, epochs=[0]))
    np.testing.assert_allclose(weights_after(scheduler, 1, tmp_path), expected, rtol=1e-5)


def test_finish_applies_the_masks_that_are_in_force(tmp_path):
    scheduler = CompressionScheduler.from_dict(linear_model(), level(0.5, {"use_double_copies": True}, epochs=[0]))
    run(scheduler, 1, tmp_path / "c.npz")
    np.testing.assert_allclose(scheduler.finish().get_weights()[0][:, 0], [0, 0, 2.4, -4.8], rtol=1e-5)


def test_a_discarded_mask_masks_nothing_in_the_end(tmp_path):
    args = {"use_double_copies": True, "discard_masks_at_minibatch_end": True}
    scheduler = CompressionScheduler.from_dict(linear_model(), level(0.5, args, epochs=[0]))
    run(scheduler, 1, tmp_path / "c.npz")
    np.testing.assert_allclose(scheduler.finish().get_weights()[0][:, 0], WEIGHTS - 2 * GRADIENT, rtol=1e-5)


def test_the_first_step_can_be_skipped(tmp_path):
    scheduler = CompressionScheduler.from_dict(linear_model(), level(0.5, {"skip_first_minibatch": True}, epochs=[0]))
    rows = []
    after = run(scheduler, 1, tmp_path / "c.npz", on_row=lambda row: rows.append(row["sparsity"]))
    assert rows == [0, 0.5]
    np.testing.assert_allclose(after.model.get_weights()[0][:, 0], [0, 0, 2.4, -4.8], rtol=1e-5)


def test_splicing_within_an_epoch_brings_weights_back(tmp_path):
    # |w| has mean 2.5; with sensitivity 0 the thresholds are .9 and 1 times that.
    pruner = {
        "class": "SplicingPruner", "sensitivities": {"fc.weight": 0.0}, "low_thresh_mult": 0.9, "hi_thresh_mult": 1.0,
    }  # fmt: skip
    args = {"mini_batch_pruning_frequency": 1, "use_double_copies": True}
    scheduler = CompressionScheduler.from_dict(linear_model(), document(pruner, args, epochs=[0, 1]))
    masks = []

    def look(row):
        masks.append(scheduler._network.weights.layers["pruner:p"].masks["fc/kernel"].numpy()[:, 0].tolist())

    run(scheduler, 2, tmp_path / "c.npz", rate=2.0, on_row=look)
    # |w| before each step: [1, 2, 3, 4], [.8, 2.4, 2.4, 4.8], [.6, 2.8, 1.8, 5.6], [.4, 3.2, 1.2, 6.4]
    assert masks == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1]]


def test_yaml_dict_and_code_give_the_same_schedule_and_the_same_weights(tmp_path):
    source = """
version: 1
pruners:
  p: {class: SparsityLevelParameterPruner, levels: {'module.fc.weight': 0.25}}
regularizers:
  l1: {class: L1Regularizer, reg_regims: {fc.weight: 0.01}}
lr_schedulers:
  slow: {class: StepLR, step_size: 1, gamma: 0.5}
policies:
  - pruner: {instance_name: p, args: {keep_mask: true}}
    starting_epoch: 1
    ending_epoch: 4
    frequency: 2
  - regularizer: {instance_name: l1}
    epochs: [0, 2]
  - lr_scheduler: {instance_name: slow}
    starting_epoch: 0
    ending_epoch: 3
    frequency: 1
"""
    path = tmp_path / "schedule.yaml"
    path.write_text(source)
    by_yaml = CompressionScheduler.from_yaml(linear_model(), path)
    by_dict = CompressionScheduler.from_dict(linear_model(), yaml.safe_load(source))
    by_code = CompressionScheduler(linear_model())
    pruner = PRUNERS["SparsityLevelParameterPruner"](levels={"module.fc.weight": 0.25})
    regularizer = REGULARIZERS["L1Regularizer"](reg_regims={"fc.weight": 0.01})
    slow = LR_SCHEDULERS["StepLR"](step_size=1, gamma=0.5)
    by_code.add_policy(PruningPolicy(pruner, "p", keep_mask=True), starting_epoch=1, ending_epoch=4, frequency=2)
    by_code.add_policy(RegularizationPolicy(regularizer, "l1"), epochs=[0, 2])
    by_code.add_policy(LRPolicy(slow, "slow"), starting_epoch=0, ending_epoch=3)
    again = tmp_path / "again.yaml"
    again.write_text(by_code.to_yaml())
    by_round_trip = CompressionScheduler.from_yaml(linear_model(), again)
    schedulers = [by_yaml, by_dict, by_code, by_round_trip]
    assert len({str(scheduler.to_dict()) for scheduler in schedulers}) == 1
    results = [weights_after(s, 4, tmp_path / str(index)) for index, s in enumerate(schedulers)]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    # Rates 1, .5, .25 and then .125; L1 adds .01 sign(w) to the gradient in epochs 0 and 2.
    first = WEIGHTS - 2 * (GRADIENT + 0.01 * np.sign(WEIGHTS)) - 2 * 0.5 * GRADIENT
    expected = first - 2 * 0.25 * (GRADIENT + 0.01 * np.sign(first)) - 2 * 0.125 * GRADIENT
    expected[0] = 0
    np.testing.assert_allclose(results[0], expected, rtol=1e-5)


def test_policies_of_one_lr_scheduler_share_its_rate(tmp_path):
    scheduler, rates = CompressionScheduler(linear_model()), []
    component = LR_SCHEDULERS["ExponentialLR"](gamma=0.5)
    scheduler.add_policy(LRPolicy(component), epochs=[0])
    scheduler.add_policy(LRPolicy(component), epochs=[2])
    run(scheduler, 4, tmp_path / "c.npz", on_row=lambda row: rates.append(row["learning_rate"]))
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.125, 0.125]


def test_names_are_given_to_components_of_code_that_have_none():
    pruner = PRUNERS["SparsityLevelParameterPruner"](levels={"*": 0.5})
    other = PRUNERS["SparsityLevelParameterPruner"](levels={"*": 0.25})
    third = PRUNERS["SparsityLevelParameterPruner"](levels={"*": 0.75})
    scheduler = CompressionScheduler(linear_model())
    scheduler.add_policy(PruningPolicy(other, "pruner_1"), epochs=[0])
    scheduler.add_policy(PruningPolicy(pruner), epochs=[0])
    scheduler.add_policy(PruningPolicy(third), epochs=[1])
    scheduler.add_policy(PruningPolicy(pruner), epochs=[2])
    assert [policy.name for policy in scheduler.policies] == ["pruner_1", "pruner_2", "pruner_3", "pruner_2"]
    with pytest.raises(InputError, match="two pruners cannot have one name. Received: 'pruner_1' twice"):
        scheduler.add_policy(PruningPolicy(third, "pruner_1"), epochs=[3])


class Recorder(ScheduledPolicy):
    kind = "recorder"

    def __init__(self, name, calls):
        super().__init__(name=name)
        self._calls = calls

    def _note(self, hook, result=None):
        self._calls.append((hook, self.name))
        return result

    def begin(self, when):
        self._note(f"begin {when.epoch}")

    def before_forward(self, step):
        self._note("before_forward")

    def transform_loss(self, loss, batch):
        return self._note("transform_loss", loss)

    def transform_gradients(self, gradients, variables):
        return self._note("transform_gradients", gradients)

    def after_update(self):
        self._note("after_update")

    def end(self, when, logs):
        self._note(f"end {when.epoch}")


def test_hooks_are_called_in_order_and_policies_in_the_order_added(tmp_path):
    calls = []
    scheduler = CompressionScheduler(linear_model())
    scheduler.add_policy(Recorder("a", calls), epochs=[0, 1])
    scheduler.add_policy(Recorder("b", calls), epochs=[1])
    run(scheduler, 2, tmp_path / "c.npz")
    traced = ("before_forward", "transform_loss", "transform_gradients", "after_update")
    assert calls == [
        ("begin 0", "a"),
        *[(hook, name) for hook in traced for name in "ab"],  # once, while the step is traced
        ("end 0", "a"),
        *[(hook, name) for hook in ("begin 1", "end 1") for name in "ab"],
    ]


SMALL = {"starting_epoch": 0, "ending_epoch": 4, "frequency": 1}
CONVS = ["conv1.weight", "conv2.weight"]


def ranked(name, **arguments):
    return {"class": name, "group_type": "Filters", "weights": CONVS, **arguments}


PRUNER_DOCUMENTS = {
    "sensitivity": document({"class": "SensitivityPruner", "sensitivities": {"*": 0.5}}, **SMALL),
    "agp": document(
        {"class": "AutomatedGradualPruner", "initial_sparsity": 0.05, "final_sparsity": 0.8, "weights": CONVS},
        starting_epoch=0, ending_epoch=4, frequency=2,
    ),
    "splicing": document(
        {"class": "SplicingPruner", "sensitivities": {"*": 0.3}, "low_thresh_mult": 0.9, "hi_thresh_mult": 1.1},
        {"mini_batch_pruning_frequency": 2, "use_double_copies": True, "keep_mask": True},
        starting_epoch=0, ending_epoch=3, frequency=1,
    ),
    "forward only": document(
        {"class": "MagnitudeParameterPruner", "thresholds": {"*": 0.1}}, {"mask_on_forward_only": True}, epochs=[1, 3]
    ),
    "baidu": document(
        {"class": "BaiduRNNPruner", "q": 0.3, "ramp_epoch_offset": 1, "ramp_slope_mult": 2, "weights": CONVS}, **SMALL
    ),
    "folded": document(
        {"class": "SparsityLevelParameterPruner", "levels": {"conv1.weight": 0.5}}, {"fold_batchnorm": True}, **SMALL
    ),
    "structure": document(
        {"class": "StructureParameterPruner", "reg_regims": {"conv2.weight": [0.15, "2D"]}}, **SMALL
    ),
    "activations": document(ranked("ActivationAPoZRankedFilterPruner", desired_sparsity=0.5), epochs=[1]),
    "means": document(ranked("ActivationMeanRankedFilterPruner", desired_sparsity=0.5), epochs=[1]),
    "gradients": document(ranked("GradientRankedFilterPruner", desired_sparsity=0.5), epochs=[0, 2]),
    "random": document(ranked("RandomRankedFilterPruner", desired_sparsity=0.5), epochs=[0, 2]),
    "bernoulli": document(
        ranked("BernoulliFilterPruner", desired_sparsity=0.3),
        {"mini_batch_pruning_frequency": 1, "discard_masks_at_minibatch_end": True, "use_double_copies": True}, **SMALL,
    ),
    "random level": document(
        {**ranked("RandomLevelStructureParameterPruner"), "sparsity_range": [0.1, 0.7]},
        {"mini_batch_pruning_frequency": 1, "use_double_copies": True}, **SMALL,
    ),
}  # fmt: skip


def with_remover(content, epoch=2):
    extension = {
        "net_thinner": {"class": "FilterRemover", "thinning_func_str": "remove_filters", "arch": "a", "dataset": "d"}
    }
    policy = {"extension": {"instance_name": "net_thinner"}, "epochs": [epoch]}
    return content | {"extensions": extension, "policies": [*content["policies"], policy]}


def only(section, item, policy_args=None, **timing):
    kind = section.removesuffix("s")
    policy = {kind: {"instance_name": "it", **({"args": policy_args} if policy_args else {})}, **(timing or SMALL)}
    return {"version": 1, section: {"it": item}, "policies": [policy]}


DOCUMENTS = PRUNER_DOCUMENTS | {
    "l1": only(
        "regularizers",
        {"class": "L1Regularizer", "reg_regims": {"*": 0.02}, "threshold_criteria": "Mean_Abs"},
        {"keep_mask": True}, starting_epoch=0, ending_epoch=2,
    ),
    "lasso": only(
        "regularizers",
        {
            "class": "GroupLassoRegularizer",
            "reg_regims": {"conv2.weight": [0.05, "Filters"], "fc.weight": [0.01, "Rows"]},
        },
    ),
    "variance": only(
        "regularizers", {"class": "GroupVarianceRegularizer", "reg_regims": {"conv2.weight": [0.0001, "Filters"]}}
    ),
    "plateau": only("lr_schedulers", {"class": "ReduceLROnPlateau", "factor": 0.5, "patience": 0}),
    "cosine": only("lr_schedulers", {"class": "CosineAnnealingLR", "T_max": 3}),
    "dorefa": only("quantizers", {"class": "DorefaQuantizer", "bits_weights": 3, "bits_activations": 4}),
    "pact": only(
        "quantizers", {"class": "PACTQuantizer", "bits_weights": 3, "bits_activations": 4, "act_clip_decay": 0.01}
    ),
    "wrpn": only("quantizers", {"class": "WRPNQuantizer", "bits_weights": 4, "bits_activations": 4}),
    "qat": only(
        "quantizers",
        {"class": "QuantAwareTrainRangeLinearQuantizer", "bits_weights": 8, "bits_activations": 8, "bits_bias": 32},
    ),
    "filters removed": with_remover(
        document(ranked("L1RankedStructureParameterPruner_AGP", initial_sparsity=0.0, final_sparsity=0.5), **SMALL)
    ),
}  # fmt: skip


def distilled(scheduler):
    keras.utils.set_random_seed(5)
    policy = KnowledgeDistillationPolicy(scheduler.model, conv_net(), 4.0, DistillationLossWeights(0.7, 0.3))
    scheduler.add_policy(policy, starting_epoch=1, ending_epoch=4)


class Stop(Exception):
    pass


@pytest.mark.parametrize("name", [*DOCUMENTS, "distillation"])
def test_a_training_stopped_in_the_middle_of_a_policy_ends_as_if_it_had_not_been(name, tmp_path):
    def scheduler():
        keras.utils.set_random_seed(3)
        made = CompressionScheduler.from_dict(conv_net(), DOCUMENTS.get(name, {"policies": []}))
        if name == "distillation":
            distilled(made)
        return made

    def go(directory, **options):
        return run(
            scheduler(), 5, tmp_path / directory / "c.npz", rate=0.05, momentum=0.9, batches=image_batches,
            loss=cross_entropy, steps_per_epoch=3, **options,
        )  # fmt: skip

    def stop_at(step):
        def stop(row):
            if row["step"] == step:
                raise Stop

        return stop

    whole = go("whole")
    before = conv_net().count_params()
    assert whole.trace_count == (2 if name == "filters removed" else 1)
    assert (whole.model.count_params() < before) == (name == "filters removed")
    for step in (5, 11):
        with pytest.raises(Stop):
            go("stopped", on_row=stop_at(step))
    resumed = go("stopped")
    for ours, theirs in zip(resumed.model.weights, whole.model.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


@pytest.mark.parametrize("name", ["dorefa", "pact", "qat"])
def test_what_is_finished_holds_quantized_weights_and_computes_the_same(name, tmp_path):
    keras.utils.set_random_seed(3)
    scheduler = CompressionScheduler.from_dict(conv_net(), DOCUMENTS[name])
    step = run(
        scheduler, 2, tmp_path / "c.npz", rate=0.05, batches=image_batches, loss=cross_entropy, steps_per_epoch=3
    )
    images, _ = next(iter(image_batches()))
    trained = step.model(images, training=False).numpy()
    finished = scheduler.finish()
    np.testing.assert_allclose(finished(images, training=False), trained, atol=1e-5)
    bits = 8 if name == "qat" else 3
    assert len(np.unique(finished.get_layer("conv2").kernel)) <= 2**bits
    assert finished.get_layer("conv2").kernel.path == "conv2/kernel"


def test_removed_filters_change_no_output(tmp_path):
    keras.utils.set_random_seed(3)
    images, _ = next(iter(image_batches()))
    content = document(ranked("L2RankedStructureParameterPruner", desired_sparsity=0.5), epochs=[0])
    outputs = []
    for schedule in (content, with_remover(content, epoch=1)):
        keras.utils.set_random_seed(3)
        scheduler = CompressionScheduler.from_dict(conv_net(), schedule)
        run(
            scheduler, 2, tmp_path / f"{len(outputs)}.npz", rate=0.05, momentum=0.9, batches=image_batches,
            loss=cross_entropy, steps_per_epoch=3,
        )  # fmt: skip
        outputs.append(scheduler.finish()(images, training=False).numpy())
    assert scheduler.model.get_layer("conv2").kernel.shape == (3, 3, 2, 3)
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-5)


def test_a_quantizer_without_training_needs_no_policy():
    keras.utils.set_random_seed(3)
    content = {"quantizers": {"q": {"class": "PostTrainLinearQuantizer", "bits_activations": 8, "bits_parameters": 4}}}
    scheduler = CompressionScheduler.from_dict(conv_net(), content | {"policies": []})
    finished = scheduler.finish(lambda: image_batches().take(2))
    assert len(np.unique(finished.get_layer("conv2").kernel)) <= 16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda s: s.add_policy(s.policies[0], epochs=[0]),
            "a policy can be added once",
        ),
        (
            lambda s: [s.add_policy(LRPolicy(LR_SCHEDULERS["StepLR"](step_size=size)), epochs=[0]) for size in (1, 2)],
            "a schedule can have one lr_scheduler. Received: a second",
        ),
        (
            lambda s: s.add_policy(QuantizationPolicy(QUANTIZERS["DorefaQuantizer"](bits_weights=2)), epochs=[1]),
            "a quantization policy must start at epoch 0. Received: 1",
        ),
        (
            lambda s: [
                s.add_policy(QuantizationPolicy(QUANTIZERS["DorefaQuantizer"](bits_weights=2)), epochs=[0])
                for _ in "ab"
            ],
            "a schedule can have one policy of a quantizer. Received: a second",
        ),
        (lambda s: s.add_policy(Recorder("r", []), starting_epoch=3, ending_epoch=3), "ending_epoch"),
        (lambda s: s.add_policy(Recorder("r", []), epochs=[]), "epoch"),
        (
            lambda s: PruningPolicy(PRUNERS["SensitivityPruner"](sensitivities={"*": 1.0}), levels={"*": 0.5}),
            "levels are for a pruner that has levels. Received: SensitivityPruner",
        ),
    ],
)
def test_policies_of_code_that_cannot_be_are_refused(make, message):
    scheduler = CompressionScheduler(linear_model())
    scheduler.add_policy(Recorder("first", []), epochs=[0])
    with pytest.raises(InputError, match=message):
        make(scheduler)
