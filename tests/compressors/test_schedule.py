from typing import Literal

import pydantic
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compressors.components import Fraction, When
from compressors.extensions import Extension
from compressors.lr_schedulers import LR_SCHEDULERS
from compressors.policy_specs import PolicySpec, PruningArguments, RegularizationArguments, Timing
from compressors.pruners import PRUNERS
from compressors.quantizers.base import Quantizer
from compressors.regularizers import REGULARIZERS
from compressors.schedule import SECTIONS, Schedule
from utils.errors import InputError


class FakeQuantizer(Quantizer):
    bits_weights: int | None = None
    overrides: dict[str, int] = {}

    def check(self, model):
        pass

    def layers(self, model):
        return {}

    def prepare(self, model, batches=None):
        return model

    def finish(self, model):
        return model


class FakeFinishedQuantizer(FakeQuantizer):
    is_for_training = False


class FakeExtension(Extension):
    arch: str | None = None
    mode: Literal["filters", "channels"] = "filters"

    def check(self, model):
        pass

    def apply(self, model, optimizer):
        return None


KNOWN = {
    "pruners": PRUNERS,
    "regularizers": REGULARIZERS,
    "quantizers": {"FakeQuantizer": FakeQuantizer, "FakeFinishedQuantizer": FakeFinishedQuantizer},
    "lr_schedulers": LR_SCHEDULERS,
    "extensions": {"FakeExtension": FakeExtension},
}

AGP = {"class": "AutomatedGradualPruner", "initial_sparsity": 0.05, "final_sparsity": 0.75, "weights": ["conv1.weight"]}
LEVELS = {"class": "SparsityLevelParameterPruner", "levels": {"conv1.weight": 0.5}}
EVERY_EPOCH = {"starting_epoch": 0, "ending_epoch": 10, "frequency": 1}


def read(document):
    return Schedule.from_dict(document, known=KNOWN)


def problems(document):
    """The lines of the error about a document, without the first."""
    with pytest.raises(InputError) as error:
        read(document)
    first, *lines = str(error.value).split("\n  ")
    assert first == f"the schedule: {len(lines)} error{'s' * (len(lines) > 1)}"
    return lines


def policy(kind="pruner", name="p", timing=EVERY_EPOCH, **args):
    return {kind: {"instance_name": name, **({"args": args} if args else {})}, **timing}


# Timing


def test_a_range_is_active_from_start_to_before_end_by_frequency():
    timing = Timing(starting_epoch=2, ending_epoch=9, frequency=3)
    assert [epoch for epoch in range(12) if timing.is_active(epoch)] == [2, 5, 8]
    assert [epoch for epoch in range(12) if timing.is_last(epoch)] == [8]
    assert (timing.start, timing.end) == (2, 9)
    assert timing.when(5) == When(5, 2, 9, 3)


def test_the_last_active_epoch_may_be_long_before_the_end():
    timing = Timing(starting_epoch=0, ending_epoch=10, frequency=7)
    assert list(timing.active_epochs) == [0, 7]
    assert timing.is_last(7)
    assert not timing.is_last(9)


def test_a_list_of_epochs_is_sorted_and_spans_from_its_first_to_its_last():
    timing = Timing(epochs=[212, 3, 181])
    assert timing.active_epochs == (3, 181, 212)
    assert (timing.start, timing.end) == (3, 213)
    assert timing.is_last(212)
    assert not timing.is_active(4)
    assert timing.when(181) == When(181, 3, 213, 1)


def test_without_a_frequency_every_epoch_is_active():
    assert list(Timing(starting_epoch=1, ending_epoch=4).active_epochs) == [1, 2, 3]


@pytest.mark.parametrize(
    ("given_timing", "message"),
    [
        ({"starting_epoch": 3, "ending_epoch": 3}, "ending_epoch: must be greater than starting_epoch, 3"),
        ({"starting_epoch": 3, "ending_epoch": 2}, "ending_epoch: must be greater than starting_epoch, 3"),
        ({"starting_epoch": -1, "ending_epoch": 2}, "starting_epoch: must be at least 0. Received: -1"),
        ({"starting_epoch": 0, "ending_epoch": 5, "frequency": 0}, "frequency: must be at least 1. Received: 0"),
        (
            {"starting_epoch": 2, "ending_epoch": 5, "frequency": 4},
            "frequency: must be at most ending_epoch - starting",
        ),
        ({"starting_epoch": True, "ending_epoch": 5}, "starting_epoch: must be a number. Received: true"),
        ({"starting_epoch": 0.5, "ending_epoch": 5}, "starting_epoch: must be a whole number. Received: 0.5"),
        ({"epochs": []}, "epochs: must be at least one epoch, each given once. Received: []"),
        ({"epochs": [1, 1]}, "epochs: must be at least one epoch, each given once. Received: [1, 1]"),
        ({"epochs": [1, -1]}, "epochs > item 2: must be at least 0. Received: -1"),
        ({"epochs": 3}, "epochs: must be a list. Received: 3"),
        ({"epochs": [1], "ending_epoch": 5}, "must have either epochs or ending_epoch, not both"),
        ({"starting_epoch": 1}, "must have epochs, or else starting_epoch and ending_epoch"),
        ({"frequency": 1}, "must have epochs, or else starting_epoch and ending_epoch"),
        ({}, "must have epochs, or else starting_epoch and ending_epoch"),
    ],
)
def test_wrong_epochs_are_refused(given_timing, message):
    with pytest.raises(InputError) as error:
        Timing.read(given_timing)
    assert message in str(error.value)
    with pytest.raises(pydantic.ValidationError):
        Timing(**given_timing)


@given(start=st.integers(0, 50), length=st.integers(1, 50), frequency=st.integers(1, 50))
def test_active_epochs_are_those_of_python_s_range(start, length, frequency):
    if frequency > length:
        with pytest.raises(InputError):
            Timing.read({"starting_epoch": start, "ending_epoch": start + length, "frequency": frequency})
        return
    timing = Timing(starting_epoch=start, ending_epoch=start + length, frequency=frequency)
    expected = list(range(start, start + length, frequency))
    assert [epoch for epoch in range(110) if timing.is_active(epoch)] == expected
    assert [epoch for epoch in range(110) if timing.is_last(epoch)] == expected[-1:]


# Policies


def test_a_policy_has_the_default_arguments_of_its_kind():
    timing = Timing(epochs=[0])
    assert PolicySpec(kind="pruner", instance_name="p", timing=timing).args == PruningArguments()
    assert PolicySpec(kind="regularizer", instance_name="r", timing=timing).args == RegularizationArguments()
    for kind in ("quantizer", "lr_scheduler", "extension"):
        assert PolicySpec(kind=kind, instance_name="x", timing=timing).args is None


def test_a_policy_does_not_take_another_kind_s_arguments():
    with pytest.raises(pydantic.ValidationError, match="args must be those of a regularizer's policy"):
        PolicySpec(kind="regularizer", instance_name="r", args=PruningArguments(), timing=Timing(epochs=[0]))


def test_all_arguments_of_a_pruning_policy_are_off_by_default():
    assert PruningArguments().model_dump() == {
        "levels": None,
        "keep_mask": False,
        "mini_batch_pruning_frequency": 0,
        "mask_on_forward_only": False,
        "mask_gradients": False,
        "use_double_copies": False,
        "discard_masks_at_minibatch_end": False,
        "skip_first_minibatch": False,
        "fold_batchnorm": False,
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"mask_gradients": True}, "mask_gradients: must be false where mask_on_forward_only is not true"),
        ({"keep_mask": 1}, "keep_mask: must be true or false. Received: 1"),
        ({"keep_mask": "yes"}, "keep_mask: must be true or false. Received: 'yes'"),
        ({"mini_batch_pruning_frequency": -1}, "mini_batch_pruning_frequency: must be at least 0. Received: -1"),
        ({"mini_batch_pruning_frequency": True}, "mini_batch_pruning_frequency: must be a number. Received: true"),
        ({"levels": {"conv1.weight": 1.5}}, "levels > conv1.weight: must be at most 1. Received: 1.5"),
        ({"keepmask": True}, "keepmask: unknown argument 'keepmask'; did you mean 'keep_mask'?"),
    ],
)
def test_wrong_arguments_of_a_pruning_policy_are_refused(args, message):
    (line,) = problems({"pruners": {"p": LEVELS}, "policies": [policy(**args)]})
    assert line.startswith(f"policies > policy 1 > pruner > args > {message}")


def test_mask_gradients_is_fine_with_mask_on_forward_only():
    schedule = read({"pruners": {"p": AGP}, "policies": [policy(mask_on_forward_only=True, mask_gradients=True)]})
    assert schedule.policies[0].args.mask_gradients


def test_null_or_empty_args_are_none_for_every_kind():
    document = {
        "pruners": {"p": AGP},
        "extensions": {"e": {"class": "FakeExtension"}},
        "policies": [
            {"pruner": {"instance_name": "p", "args": None}, "epochs": [0]},
            {"extension": {"instance_name": "e", "args": {}}, "epochs": [1]},
        ],
    }
    assert [policy.args for policy in read(document).policies] == [PruningArguments(), None]


# Documents


def test_a_schedule_holds_components_and_policies_in_the_order_written():
    document = {
        "version": 1,
        "pruners": {"b": LEVELS, "a": AGP},
        "regularizers": {"r": {"class": "L1Regularizer", "reg_regims": {"conv1.weight": 2e-6}}},
        "lr_schedulers": {"lr": {"class": "ExponentialLR", "gamma": 0.9}},
        "policies": [policy(name="a", keep_mask=True), policy("lr_scheduler", "lr"), policy(name="b")],
    }
    schedule = read(document)
    assert list(schedule.pruners) == ["b", "a"]
    assert [(spec.kind, spec.instance_name) for spec in schedule.policies] == [
        ("pruner", "a"),
        ("lr_scheduler", "lr"),
        ("pruner", "b"),
    ]
    first = schedule.policies[0]
    assert schedule.component(first) == PRUNERS["AutomatedGradualPruner"](
        initial_sparsity=0.05, final_sparsity=0.75, weights=["conv1.weight"]
    )
    assert first.args.keep_mask
    assert first.timing == Timing(starting_epoch=0, ending_epoch=10, frequency=1)


def test_a_schedule_from_code_equals_one_from_a_document():
    pruner = PRUNERS["SparsityLevelParameterPruner"](levels={"conv1.weight": 0.5})
    timing = Timing(starting_epoch=0, ending_epoch=10, frequency=1)
    spec = PolicySpec(kind="pruner", instance_name="p", args=PruningArguments(keep_mask=True), timing=timing)
    from_code = Schedule(pruners={"p": pruner}, policies=(spec,))
    assert from_code == read({"pruners": {"p": LEVELS}, "policies": [policy(keep_mask=True)]})
    assert from_code != read({"pruners": {"p": LEVELS}, "policies": [policy()]})


def test_null_sections_and_a_missing_version_mean_nothing():
    assert read({"pruners": None, "policies": None, "quantizers": {}}) == Schedule() == read({})


def test_levels_of_a_policy_stand_in_place_of_the_pruner_s_own():
    schedule = read({"pruners": {"p": LEVELS}, "policies": [policy(levels={"fc.weight": 0.25}), policy()]})
    assert schedule.acting(schedule.policies[0]).levels == {"fc.weight": 0.25}
    assert schedule.acting(schedule.policies[1]).levels == {"conv1.weight": 0.5}
    assert schedule.component(schedule.policies[0]).levels == {"conv1.weight": 0.5}


def test_the_document_of_a_schedule_says_only_what_was_given():
    document = {
        "version": 1,
        "pruners": {"p": LEVELS},
        "policies": [policy(keep_mask=True), {"pruner": {"instance_name": "p"}, "epochs": [3, 7]}],
    }
    assert read(document).to_dict() == document


def test_a_schedule_file_is_yaml_with_its_keys_in_the_document_s_order():
    text = read({"pruners": {"z": AGP}, "policies": [policy(name="z")]}).to_yaml()
    assert list(yaml.safe_load(text)) == ["version", "pruners", "policies"]
    assert yaml.safe_load(text)["pruners"]["z"] == AGP


def test_an_instance_without_a_policy_is_a_warning():
    assert read({"pruners": {"p": AGP, "q": AGP}, "policies": [policy()]}).warnings == (
        "pruners > q: no policy uses it",
    )


def test_a_quantizer_of_finished_networks_needs_no_policy():
    assert read({"quantizers": {"q": {"class": "FakeFinishedQuantizer"}}}).warnings == ()
    assert read({"quantizers": {"q": {"class": "FakeQuantizer"}}}).warnings == ("quantizers > q: no policy uses it",)


# What is refused


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], "must be a mapping of version, pruners, regularizers, quantizers, lr_schedulers, extensions, policies"),
        (None, "Received: null"),
        ({"version": 2}, "version: must be 1 or absent. Received: 2"),
        ({"version": True}, "version: must be 1 or absent. Received: true"),
        ({"version": None}, "version: must be 1 or absent. Received: null"),
        ({"prunres": {}}, "prunres: unknown section 'prunres'; did you mean 'pruners'? Allowed: version, pruners"),
        ({"pruners": [AGP]}, "pruners: must be a mapping of names to instances"),
        ({"pruners": {"p": None}}, "pruners > p: must be a mapping of class and its arguments. Received: null"),
        ({"pruners": {3: AGP}}, "pruners > 3: the name must be text. Received: 3"),
        ({"pruners": {"p": {"levels": {}}}}, "pruners > p > class: is missing. Allowed: MagnitudeParameterPruner, "),
        ({"pruners": {"p": {"class": ["x"]}}}, "pruners > p > class: unknown class ['x']"),
        (
            {"pruners": {"p": {**AGP, "class": "AutomatedGradualPrunner"}}},
            "pruners > p > class: unknown class 'AutomatedGradualPrunner'; did you mean 'AutomatedGradualPruner'?",
        ),
        (
            {"pruners": {"p": {"class": "L1Regularizer", "reg_regims": {"a": 1}}}},
            "pruners > p > class: L1Regularizer belongs in the section regularizers, not in pruners",
        ),
        (
            {"pruners": {"p": {**AGP, "finalsparsity": 0.9}}},
            "pruners > p > finalsparsity: unknown argument 'finalsparsity'; did you mean 'final_sparsity'? Allowed: "
            "initial_sparsity, final_sparsity, weights",
        ),
        ({"pruners": {"p": {**AGP, "final_sparsity": 0.05}}}, "pruners > p: final_sparsity must be above"),
        ({"pruners": {"p": {**AGP, "final_sparsity": float("nan")}}}, "pruners > p > final_sparsity: must be"),
        ({"pruners": {"p": {**AGP, "final_sparsity": True}}}, "final_sparsity: must be a number. Received: true"),
        ({"pruners": {"p": {**AGP, "final_sparsity": "much"}}}, "final_sparsity: must be a number. Received: 'much'"),
        (
            {"pruners": {"p": {**AGP, "weights": []}}},
            "pruners > p > weights: must be at least 1 long, not 0. Received: []",
        ),
        ({"pruners": {"p": {**LEVELS, "levels": {3: 0.5}}}}, "pruners > p > levels > 3: its key must be text"),
        ({"pruners": {"p": {"class": "SensitivityPruner"}}}, "pruners > p > sensitivities: is missing"),
        (
            {"quantizers": {"q": {"class": "FakeQuantizer"}, "r": {"class": "FakeQuantizer"}}},
            "quantizers > r: must not be there: quantizers may have one instance, 'q'",
        ),
        (
            {"lr_schedulers": {"a": {"class": "ExponentialLR", "gamma": 1}, "b": {"class": "StepLR", "step_size": 1}}},
            "lr_schedulers > b: must not be there: lr_schedulers may have one instance, 'a'",
        ),
        ({"policies": {"pruner": "p"}}, "policies: must be a list"),
        ({"policies": ["p"]}, "policies > policy 1: must be a mapping of one of pruner, regularizer, quantizer, "),
        ({"policies": [EVERY_EPOCH]}, "policies > policy 1: must have exactly one of pruner, "),
        ({"policies": [{**EVERY_EPOCH, "pruner": "p"}]}, "policies > policy 1 > pruner: must be a mapping"),
        ({"policies": [{**EVERY_EPOCH, "pruner": None}]}, "policies > policy 1 > pruner: must be a mapping"),
        (
            {"policies": [{**EVERY_EPOCH, "pruner": {"args": {}}}]},
            "policies > policy 1 > pruner > instance_name: must be the name of one of the pruners. Received: null",
        ),
        (
            {"pruners": {"slow": AGP}, "policies": [policy(name="slwo")]},
            "policies > policy 1 > pruner > instance_name: unknown pruner 'slwo'; did you mean 'slow'? Allowed: slow",
        ),
        ({"policies": [policy(name="p")]}, "unknown pruner 'p'; there is none"),
        (
            {"extensions": {"e": {"class": "FakeExtension"}}, "policies": [policy("extension", "e", keep_mask=True)]},
            "policies > policy 1 > extension > args: must be absent: policies of this kind take none",
        ),
        (
            {"quantizers": {"q": {"class": "FakeQuantizer"}}, "policies": [policy("quantizer", "q", {"epochs": [1]})]},
            "policies > policy 1 > epochs: must start at epoch 0 for a quantizer. Received: 1",
        ),
        (
            {"pruners": {"p": AGP}, "policies": [policy(levels={"conv1.weight": 0.5})]},
            "policies > policy 1 > pruner > args > levels: must be absent: 'p' has no levels, it is a Automated",
        ),
    ],
)
def test_a_wrong_document_is_refused_with_the_place(document, expected):
    (line,) = problems(document)
    assert expected in line


def test_a_quantizer_has_one_policy_only():
    start = {"starting_epoch": 0, "ending_epoch": 2}
    document = {"quantizers": {"q": {"class": "FakeQuantizer"}}, "policies": [policy("quantizer", "q", start)] * 2}
    assert problems(document) == ["policies > policy 2: must not be there: policy 1 quantizes already"]


def test_a_policy_has_one_kind_and_only_known_keys():
    document = {
        "pruners": {"p": AGP},
        "policies": [policy() | policy("quantizer", "q"), {**policy(), "frequancy": 1}],
    }
    assert problems(document) == [
        "policies > policy 1: must have exactly one of pruner, regularizer, quantizer, lr_scheduler, extension. "
        "Received: pruner, quantizer",
        "policies > policy 2 > frequancy: unknown key 'frequancy'; did you mean 'frequency'? Allowed: pruner, "
        "regularizer, quantizer, lr_scheduler, extension, epochs, starting_epoch, ending_epoch, frequency",
    ]


def test_all_problems_of_a_document_are_told_at_once():
    document = {
        "version": 3,
        "pruners": {"p": {**AGP, "final_sparsity": 2, "initial_sparsity": -1}, "q": {"class": "Nothing"}},
        "policies": [policy(name="r", timing={"starting_epoch": 5, "ending_epoch": 5})],
    }
    lines = problems(document)
    assert [line.split(": ")[0] for line in lines] == [
        "version",
        "pruners > p > initial_sparsity",
        "pruners > p > final_sparsity",
        "pruners > q > class",
        "policies > policy 1 > ending_epoch",
        "policies > policy 1 > pruner > instance_name",
    ]


def test_an_instance_with_a_mistake_is_still_known_to_its_policies():
    (line,) = problems({"pruners": {"p": {**AGP, "final_sparsity": 2}}, "policies": [policy()]})
    assert line == "pruners > p > final_sparsity: must be at most 1. Received: 2"


def test_errors_are_in_plain_words():
    document = {"pruners": {"p": {**AGP, "final_sparsity": [], "weights": 3}}, "policies": [policy(keep_mask="x")]}
    text = "\n".join(problems(document))
    assert "pydantic" not in text
    assert "http" not in text
    assert "Input should" not in text


def test_a_late_quantizer_is_told_beside_what_else_is_wrong_with_its_epochs():
    timing = {"starting_epoch": 1, "ending_epoch": 2, "frequency": 0}
    document = {"quantizers": {"q": {"class": "FakeQuantizer"}}, "policies": [policy("quantizer", "q", timing)]}
    assert problems(document) == [
        "policies > policy 1 > frequency: must be at least 1. Received: 0",
        "policies > policy 1 > starting_epoch: must start at epoch 0 for a quantizer. Received: 1",
    ]


def test_a_schedule_from_code_obeys_the_same_rules():
    spec = PolicySpec(kind="quantizer", instance_name="q", timing=Timing(epochs=[1]))
    with pytest.raises(InputError, match="must start at epoch 0 for a quantizer. Received: 1"):
        Schedule(quantizers={"q": FakeQuantizer()}, policies=(spec,))
    with pytest.raises(InputError, match="unknown quantizer 'q'"):
        Schedule(policies=(spec,))


# Round trips

fractions = st.floats(0, 1)
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
settings = st.dictionaries(names, fractions, min_size=1, max_size=3)
pruners = st.one_of(
    st.builds(lambda s: {"class": "SparsityLevelParameterPruner", "levels": s}, settings),
    st.builds(lambda s: {"class": "SensitivityPruner", "sensitivities": s}, settings),
    st.builds(
        lambda low, high, weights: {
            "class": "AutomatedGradualPruner",
            "initial_sparsity": low / 2,
            "final_sparsity": 0.5 + high / 2,
            "weights": weights,
        },
        st.floats(0, 0.99),
        st.floats(0.01, 1),
        st.lists(names, min_size=1, max_size=3),
    ),
)
ranges = st.builds(
    lambda start, length: {"starting_epoch": start, "ending_epoch": start + length},
    st.integers(0, 99),
    st.integers(1, 99),
)
epoch_lists = st.builds(lambda epochs: {"epochs": epochs}, st.lists(st.integers(0, 999), min_size=1, unique=True))
pruning_args = st.fixed_dictionaries(
    {},
    optional={
        "keep_mask": st.booleans(),
        "mini_batch_pruning_frequency": st.integers(0, 9),
        "use_double_copies": st.booleans(),
        "fold_batchnorm": st.booleans(),
    },
)


@st.composite
def documents(draw):
    """Valid documents of pruners, a learning rate and an extension, some without a policy."""
    sections = {"pruners": draw(st.dictionaries(names, pruners, max_size=3))}
    if draw(st.booleans()):
        sections["lr_schedulers"] = {draw(names): {"class": "StepLR", "step_size": draw(st.integers(1, 99))}}
    if draw(st.booleans()):
        sections["extensions"] = {draw(names): {"class": "FakeExtension", "arch": draw(st.none() | names)}}
    policies = []
    for kind in ("pruner", "lr_scheduler", "extension"):
        for name in sections.get(f"{kind}s", {}):
            if draw(st.integers(0, 3)):
                body = {"instance_name": name}
                if kind == "pruner":
                    body["args"] = draw(st.none() | pruning_args)
                policies.append({kind: body, **draw(ranges | epoch_lists)})
    return {"version": 1, **sections, "policies": draw(st.permutations(policies))}


@given(documents())
def test_the_document_of_a_schedule_gives_an_equal_schedule(document):
    schedule = read(document)
    assert read(schedule.to_dict()) == schedule
    assert read(yaml.safe_load(schedule.to_yaml())) == schedule
    assert len(schedule.policies) == len(document["policies"])
    assert all(len(getattr(schedule, section)) == len(document.get(section, {})) for section in SECTIONS)


def test_a_fraction_may_be_written_as_text():
    # YAML 1.1 reads 1e-4 as text, for it has no decimal point.
    assert read({"pruners": {"p": {**LEVELS, "levels": {"a": "1e-4"}}}}).pruners["p"].levels == {"a": 1e-4}
    assert isinstance(pydantic.TypeAdapter(Fraction).validate_python("0.5"), float)
