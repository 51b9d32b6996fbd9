import keras
import pytest

from compressors.plan import Group, make_plan
from compressors.schedule import Schedule
from utils.errors import InputError


@pytest.fixture(scope="module")
def model():
    """Kernels conv1 (3, 3, 3, 8) of 216 weights, conv2 (3, 3, 8, 8) of 576 and fc (8, 4) of 32: 824 in all."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, name="conv1")(images)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Conv2D(8, 3, name="conv2")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, keras.layers.Dense(4, name="fc")(x))


# Active in epochs 0, 2, 4; the span is 4: 0.8 - 0.8 (1 - e / 4)^3 is 0, 0.7 and 0.8.
GRADUAL = {"class": "AutomatedGradualPruner", "initial_sparsity": 0, "final_sparsity": 0.8, "weights": ["fc.weight"]}
GRADUAL_EPOCHS = {"starting_epoch": 0, "ending_epoch": 5, "frequency": 2}


def levels(**by_layer):
    return {"class": "SparsityLevelParameterPruner", "levels": {f"{name}.weight": s for name, s in by_layer.items()}}


def policy(kind, name, args=None, **timing):
    return {kind: {"instance_name": name, "args": args}, **timing}


def plan_of(model, num_epochs=10, **document):
    return make_plan(Schedule.from_dict(document), model, num_epochs, base_rate=1.0)


def test_a_gradual_pruner_s_row_has_its_sparsity_in_each_active_epoch(model):
    plan = plan_of(model, pruners={"p": GRADUAL}, policies=[policy("pruner", "p", **GRADUAL_EPOCHS)])
    (row,) = plan.rows
    assert row[:5] == (1, "pruner", "p", "AutomatedGradualPruner", (0, 2, 4))
    (group,) = row.groups
    assert group.names == ("fc/kernel",)
    assert group.num_weights == 32
    assert group.sparsity == pytest.approx({0: 0.0, 2: 0.7, 4: 0.8})
    assert row.sparsity_range(2) == pytest.approx((0.7, 0.7))


def test_parameters_of_equal_sparsity_are_one_group(model):
    document = {
        "pruners": {"p": levels(conv1=0.5, fc=0.25, conv2=0.5)},
        "policies": [policy("pruner", "p", epochs=[1])],
    }
    (row,) = plan_of(model, **document).rows
    assert row.groups == (
        Group(("conv1/kernel", "conv2/kernel"), 792, {1: 0.5}),
        Group(("fc/kernel",), 32, {1: 0.25}),
    )
    assert row.sparsity_range(1) == (0.25, 0.5)


def test_levels_of_the_policy_count(model):
    policies = [policy("pruner", "p", {"levels": {"fc.weight": 0.75}}, epochs=[0]), policy("pruner", "p", epochs=[1])]
    plan = plan_of(model, pruners={"p": levels(conv1=0.5)}, policies=policies)
    assert [row.groups for row in plan.rows] == [
        (Group(("fc/kernel",), 32, {0: 0.75}),),
        (Group(("conv1/kernel",), 216, {1: 0.5}),),
    ]


def test_the_final_sparsity_is_of_all_prunable_weights(model):
    plan = plan_of(
        model,
        pruners={"p": GRADUAL, "q": levels(conv1=0.25)},
        policies=[policy("pruner", "p", **GRADUAL_EPOCHS), policy("pruner", "q", epochs=[3])],
    )
    assert plan.kernels == {"conv1/kernel": 216, "conv2/kernel": 576, "fc/kernel": 32}
    assert plan.num_weights == 824
    assert plan.ratios == pytest.approx({"fc/kernel": 0.8, "conv1/kernel": 0.25})
    assert plan.sparsity == pytest.approx((0.8 * 32 + 0.25 * 216) / 824)
    assert plan.is_exact
    assert plan.untouched == ("conv2/kernel",)


def test_only_epochs_of_the_training_count(model):
    plan = plan_of(model, 4, pruners={"p": GRADUAL}, policies=[policy("pruner", "p", **GRADUAL_EPOCHS)])
    assert plan.rows[0].epochs == (0, 2)
    assert plan.sparsity == pytest.approx(0.7 * 32 / 824)
    assert plan.warnings == (
        "policies > policy 1: pruner 'p' does not come to its end in epoch 4: the training has 4, from 0 on",
    )


def test_a_policy_after_the_training_asks_for_nothing(model):
    plan = plan_of(model, 3, pruners={"p": levels(fc=0.5)}, policies=[policy("pruner", "p", epochs=[3])])
    assert plan.rows[0].epochs == ()
    assert plan.sparsity == 0
    assert "never acts" in plan.warnings[0]


def test_where_weights_decide_the_sparsity_is_at_least_that_of_the_others(model):
    plan = plan_of(
        model,
        pruners={"p": {"class": "SensitivityPruner", "sensitivities": {"conv2.weight": 1}}, "q": levels(fc=0.5)},
        policies=[policy("pruner", "p", epochs=[0]), policy("pruner", "q", epochs=[0])],
    )
    assert plan.rows[0].groups == (Group(("conv2/kernel",), 576, {0: None}),)
    assert plan.rows[0].sparsity_range(0) is None
    assert plan.sparsity == pytest.approx(0.5 * 32 / 824)
    assert not plan.is_exact


def test_masks_of_two_pruners_add_up_and_of_one_the_last_counts(model):
    pruners = {"p": levels(fc=0.5), "q": levels(fc=0.25)}
    both = [policy("pruner", "p", epochs=[0, 1]), policy("pruner", "q", epochs=[5])]
    plan = plan_of(model, pruners=pruners, policies=both)
    assert plan.sparsity == pytest.approx(0.5 * 32 / 824)
    assert not plan.is_exact
    again = [policy("pruner", "p", epochs=[5]), policy("pruner", "p", {"levels": {"fc.weight": 0.25}}, epochs=[0, 9])]
    plan = plan_of(model, pruners=pruners, policies=again)
    assert plan.sparsity == pytest.approx(0.25 * 32 / 824)
    assert plan.is_exact


def test_discarded_masks_leave_nothing_in_the_end(model):
    policies = [policy("pruner", "p", {"discard_masks_at_minibatch_end": True}, epochs=[0])]
    plan = plan_of(model, pruners={"p": levels(fc=0.5)}, policies=policies)
    assert plan.sparsity == 0
    assert plan.rows[0].sparsity_range(0) == (0.5, 0.5)


def test_a_regularizer_s_row_has_its_strengths(model):
    regimes = {"conv1.weight": [1e-5, "3D"], "conv2.weight": [1e-5, "2D"], "fc.weight": [2e-4, "Rows"]}
    plan = plan_of(
        model,
        regularizers={"r": {"class": "GroupLassoRegularizer", "reg_regims": regimes}},
        policies=[policy("regularizer", "r", starting_epoch=0, ending_epoch=3)],
    )
    assert plan.rows[0].groups == (
        Group(("conv1/kernel", "conv2/kernel"), 792, setting="strength 1e-05"),
        Group(("fc/kernel",), 32, setting="strength 0.0002"),
    )
    assert plan.untouched == ()


def test_a_quantizer_s_row_has_the_bits_of_layers(model):
    quantizer = {"class": "DorefaQuantizer", "bits_weights": 4, "overrides": {"fc": {"bits_weights": None}}}
    plan = plan_of(
        model,
        quantizers={"q": quantizer},
        policies=[policy("quantizer", "q", starting_epoch=0, ending_epoch=10)],
    )
    assert plan.rows[0].groups == (Group(("conv1", "conv2"), 216 + 8 + 576 + 8, setting="weights 4 bits"),)
    assert plan.untouched == ("fc/kernel",)


def test_a_quantizer_of_the_finished_network_has_a_row_without_a_policy(model):
    plan = plan_of(model, quantizers={"q": {"class": "PostTrainLinearQuantizer"}})
    assert plan.rows[0][:5] == (1, "quantizer", "q", "PostTrainLinearQuantizer", ())
    assert plan.rows[0].groups
    assert plan.warnings == ()


def test_the_learning_rate_changes_after_active_epochs_only(model):
    # The rate of epoch e is 0.1^(e // 2); the policy sets it at the end of epochs 1, 2, 3 for epochs 2, 3, 4.
    plan = plan_of(
        model,
        7,
        lr_schedulers={"lr": {"class": "StepLR", "step_size": 2, "gamma": 0.1}},
        policies=[policy("lr_scheduler", "lr", starting_epoch=1, ending_epoch=4)],
    )
    assert plan.rows[0].rates == pytest.approx({0: 1.0, 1: 1.0, 2: 0.1, 3: 0.1, 4: 0.01, 5: 0.01, 6: 0.01})


def test_a_rate_that_depends_on_the_training_is_not_known_before(model):
    plan = plan_of(
        model,
        4,
        lr_schedulers={"lr": {"class": "ReduceLROnPlateau"}},
        policies=[policy("lr_scheduler", "lr", epochs=[1])],
    )
    assert plan.rows[0].rates == {0: 1.0, 1: 1.0, 2: None, 3: None}


def test_idle_instances_are_warnings(model):
    assert plan_of(model, pruners={"p": GRADUAL}).warnings == ("pruners > p: no policy uses it",)


def test_a_plan_for_another_model_is_refused(model):
    document = {"pruners": {"p": levels(conv3=0.5)}, "policies": [policy("pruner", "p", epochs=[0])]}
    with pytest.raises(InputError, match=r"the model has no parameter 'conv3.weight'; the nearest are conv\d.weight"):
        plan_of(model, **document)


def test_targets_are_what_is_asked_for_in_the_end_and_none_where_weights_decide(model):
    document = {
        "pruners": {
            "gradual": GRADUAL,
            "half": levels(conv1=0.5),
            "by_size": {"class": "MagnitudeParameterPruner", "thresholds": {"conv2.weight": 0.1}},
        },
        "policies": [policy("pruner", "gradual", **GRADUAL_EPOCHS)],
    }
    assert plan_of(model, **document).targets == pytest.approx({"conv1/kernel": 0, "conv2/kernel": 0, "fc/kernel": 0.8})
    document["policies"] += [policy("pruner", "half", epochs=[1]), policy("pruner", "by_size", epochs=[1])]
    targets = plan_of(model, **document).targets
    assert (targets["conv1/kernel"], targets["conv2/kernel"]) == (0.5, None)


def test_two_pruners_of_one_kernel_or_a_regularizer_s_threshold_leave_no_target(model):
    lasso = {"class": "L1Regularizer", "reg_regims": {"fc.weight": 0.1}}
    document = {
        "pruners": {"half": levels(conv1=0.5), "third": levels(conv1=0.3, conv2=0.3)},
        "regularizers": {"lasso": lasso},
        "policies": [
            policy(kind, name, epochs=[1])
            for kind, name in (("pruner", "half"), ("pruner", "third"), ("regularizer", "lasso"))
        ],
    }
    assert plan_of(model, **document).targets == {"conv1/kernel": None, "conv2/kernel": 0.3, "fc/kernel": 0.0}
    lasso["threshold_criteria"] = "Max"
    assert plan_of(model, **document).targets["fc/kernel"] is None
