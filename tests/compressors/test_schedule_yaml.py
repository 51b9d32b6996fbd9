import copy
import string
import time
from pathlib import Path

import keras
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compressors.pruners import PRUNERS
from compressors.schedule import REGISTRIES, Schedule
from compressors.schedule_yaml import check_against, read_schedule
from utils.errors import InputError


@pytest.fixture(scope="module")
def model():
    """Convolutions conv1 (3, 3, 3, 8) and layer1.0.conv1 (3, 3, 8, 8), and a dense fc (8, 4)."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, name="conv1")(images)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Conv2D(8, 3, name="layer1.0.conv1")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(4, name="fc")(x))


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "schedule.yaml"
        path.write_text(text, encoding="utf-8")
        return read_schedule(path)

    return read_text


def told(call, *args):
    """The lines of the InputError that `call` raises, without the first, which has the number of errors."""
    with pytest.raises(InputError) as error:
        call(*args)
    first, *lines = str(error.value).split("\n  ")
    assert first.endswith(f"schedule.yaml: {len(lines)} error{'s' * (len(lines) > 1)}")
    return lines


# What is read


def test_pruning_with_a_decaying_learning_rate(read):
    schedule = read("""
version: 1
pruners:
  my_pruner:
    class: 'SensitivityPruner'
    sensitivities:
      'features.module.0.weight': 0.25
      'classifier.6.weight': 1
lr_schedulers:
   pruning_lr:
     class: ExponentialLR
     gamma: 0.9
policies:
  - pruner:
      instance_name : 'my_pruner'
    starting_epoch: 0
    ending_epoch: 38
    frequency: 2

  - lr_scheduler:
      instance_name: pruning_lr
    starting_epoch: 24
    ending_epoch: 200
    frequency: 1
""")
    assert schedule.pruners["my_pruner"].sensitivities == {"features.module.0.weight": 0.25, "classifier.6.weight": 1.0}
    assert schedule.lr_schedulers["pruning_lr"].gamma == 0.9
    assert list(schedule.policies[0].timing.active_epochs) == list(range(0, 38, 2))
    assert schedule.policies[1].instance_name == "pruning_lr"
    assert schedule.warnings == ()


def test_regularizers_with_strengths_and_groups(read):
    schedule = read("""
regularizers:
  fine:
    class: L1Regularizer
    reg_regims:
      'module.layer3.1.conv1.weight': 0.000002
    threshold_criteria: Mean_Abs
  groups:
    class: GroupLassoRegularizer
    reg_regims:
      module.layer3.1.conv1.weight: [0.00005, '3D']
      module.fc.weight: [1e-5, Rows]
policies:
  - regularizer: {instance_name: fine, args: {keep_mask: True}}
    starting_epoch: 0
    ending_epoch: 60
  - regularizer: {instance_name: groups}
    epochs: [1, 2]
""")
    assert schedule.regularizers["fine"].reg_regims == {"module.layer3.1.conv1.weight": 2e-6}
    regimes = schedule.regularizers["groups"].reg_regims
    assert [tuple(regime) for regime in regimes.values()] == [(5e-5, "3D"), (1e-5, "Rows")]
    assert [policy.args.keep_mask for policy in schedule.policies] == [True, False]


def test_aliases_merge_keys_and_a_single_name_in_place_of_a_list(read):
    schedule = read("""
pruners:
  first: &agp
    class: AutomatedGradualPruner
    initial_sparsity : 0.05
    final_sparsity: 0.70
    weights: &weights [module.layer1.0.conv2.weight,
                       module.layer1.1.conv2.weight]
  second: {<<: *agp, final_sparsity: 0.9}
  third:
    class: L1RankedStructureParameterPruner_AGP
    initial_sparsity: 0
    final_sparsity: 1
    group_type: Filters
    weights: *weights
  fourth: {<<: *agp, weights: module.fc.weight}
""")
    assert schedule.pruners["second"].final_sparsity == 0.9
    assert schedule.pruners["second"].weights == schedule.pruners["third"].weights
    assert schedule.pruners["fourth"].weights == ["module.fc.weight"]


def test_a_quantizer_with_overrides_in_the_older_spelling(read):
    schedule = read("""
quantizers:
  dorefa_quantizer:
    class: DorefaQuantizer
    bits_activations: 8
    bits_weights: 4
    bits_overrides:
      conv1: {wts: null, acts: null}
      block1.conv*:
        wts: 2
        acts: null
policies:
    - quantizer:
        instance_name: dorefa_quantizer
      starting_epoch: 0
      ending_epoch: 200
      frequency: 1
""")
    overrides = schedule.quantizers["dorefa_quantizer"].overrides
    assert list(overrides) == ["conv1", "block1.conv*"]
    assert overrides["block1.conv*"].bits_weights == 2


def test_a_quantizer_of_finished_networks_with_inputs_by_number(read):
    schedule = read("""
quantizers:
  post_train_quantizer:
    class: PostTrainLinearQuantizer
    bits_activations: 8
    bits_parameters: 8
    mode: ASYMMETRIC_UNSIGNED
    per_channel_wts: True
    clip_acts: AVG
    overrides:
      conv1:
        input_overrides:
          0:
            from_output: True
      fc:
        clip_acts: NONE
""")
    assert list(schedule.quantizers["post_train_quantizer"].overrides) == ["conv1", "fc"]
    assert schedule.warnings == ()


def test_filter_removal(read):
    schedule = read("""
extensions:
  net_thinner:
      class: 'FilterRemover'
      thinning_func_str: remove_filters
      arch: 'resnet20_cifar'
      dataset: 'cifar10'
policies:
  - extension:
      instance_name: net_thinner
    epochs: [212]
""")
    assert schedule.policies[0].timing.active_epochs == (212,)


def test_a_file_written_from_a_schedule_gives_an_equal_schedule(read):
    schedule = read(yaml.safe_dump(VALID))
    assert read(schedule.to_yaml()) == schedule
    assert Schedule.from_dict(yaml.safe_load(yaml.safe_dump(VALID))) == schedule


# What is refused, with its line


def test_all_errors_of_a_file_are_told_with_line_place_value_and_what_is_allowed(read):
    assert told(
        read,
        """\
version: 2
pruners:
  low:
    class: SparsityLevelParameterPruner
    levels:
      module.conv1.weight: 1.5
      module.fc.weight: 0.5
      module.fc.weight: 0.6
  gradual:
    class: AutomatedGradualPruner
    initial_sparsity: 0.5
    final_sparsity: 0.5
    weights: [fc.weight]
  gone:
    class: SensitivtyPruner
regularizers:
  reg:
    class: L1Regularizer
    reg_regims: {fc.weight: -1}
    threshold_criteria: Mean
lr_schedulers:
  lr: {class: StepLR, step_sise: 3}
policies:
  - pruner: {instance_name: slow}
    starting_epoch: 0
    ending_epoch: 5
    frequency: 6
  - regularizer:
      instance_name: reg
    starting_epoch: 3
    ending_epoch: 3
    frequency: 0
""",
    ) == [
        "line 1, version: must be 1 or absent. Received: 2",
        "line 6, pruners > low > levels > module.conv1.weight: must be at most 1. Received: 1.5",
        "line 8, pruners > low > levels > module.fc.weight: is given twice, first in line 7",
        "line 9, pruners > gradual: final_sparsity must be above initial_sparsity=0.5. Received: 0.5",
        "line 15, pruners > gone > class: unknown class 'SensitivtyPruner'; did you mean 'SensitivityPruner'? Allowed: "
        + ", ".join(PRUNERS),
        "line 19, regularizers > reg > reg_regims > fc.weight: must be at least 0. Received: -1",
        "line 20, regularizers > reg > threshold_criteria: must be 'Mean_Abs' or 'Max'. Received: 'Mean'",
        "line 22, lr_schedulers > lr > step_size: is missing",
        "line 22, lr_schedulers > lr > step_sise: unknown argument 'step_sise'; did you mean 'step_size'? Allowed: "
        "last_epoch, verbose, step_size, gamma",
        "line 24, policies > policy 1 > pruner > instance_name: unknown pruner 'slow'; did you mean 'low'? Allowed: "
        "low, gradual, gone",
        "line 27, policies > policy 1 > frequency: must be at most ending_epoch - starting_epoch, 5. Received: 6",
        "line 31, policies > policy 2 > ending_epoch: must be greater than starting_epoch, 3: it is exclusive. "
        "Received: 3",
        "line 32, policies > policy 2 > frequency: must be at least 1. Received: 0",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "quantizers:\n  a: {class: DorefaQuantizer}\n  b: {class: DorefaQuantizer}\n",
            "line 3, quantizers > b: must not be there: quantizers may have one instance, 'a'",
        ),
        (
            "lr_schedulers:\n  a: {class: StepLR, step_size: 1}\n  b: {class: StepLR, step_size: 1}\n",
            "line 3, lr_schedulers > b: must not be there: lr_schedulers may have one instance, 'a'",
        ),
        (
            "quantizers:\n  a: {class: DorefaQuantizer}\npolicies:\n- quantizer: {instance_name: a}\n  epochs: [2]\n",
            "line 5, policies > policy 1 > epochs: must start at epoch 0 for a quantizer. Received: 2",
        ),
        (
            "policies:\n  - extension: {instance_name: thinner}\n    epochs: [2]\n",
            "line 2, policies > policy 1 > extension > instance_name: unknown extension 'thinner'; there is none",
        ),
        ("pruners: {}\nversion: 1.5\n", "line 2, version: must be 1 or absent. Received: 1.5"),
        (
            "pruners:\n  a:\n    class: SensitivityPruner\n    sensitivities:\n      b: .inf\n",
            "line 5, pruners > a > sensitivities > b: must be a finite number. Received: .inf",
        ),
        (
            "pruners:\n  a:\n    class: SensitivityPruner\n    sensitivities: !!python/object:os.system {}\n",
            "line 4, pruners > a > sensitivities: must be plain: text, numbers, true or false, null, lists and "
            "mappings. Received: !!python/object:os.system",
        ),
        ("7: {}\n", "line 1, 7: a key must be text, in quotes if need be. Received: 7"),
        (
            "- a\n",
            "line 1: must be a mapping of version, pruners, regularizers, quantizers, lr_schedulers, extensions,",
        ),
        ("pruners: {a: [\n", "line 2: not YAML: "),
        ("a: &a [*a]\n", "line 1: the alias *a is used inside of what it stands for"),
        (
            "quantizers:\n  q:\n    class: DorefaQuantizer\n    overrides:\n      conv1:\n        wtz: 3\n",
            "line 6, quantizers > q > overrides > conv1 > wtz: unknown argument 'wtz'. Allowed: bits_weights, ",
        ),
        (
            "quantizers:\n  q:\n    class: DorefaQuantizer\n    bits_overrides:\n      conv1:\n        wts: few\n",
            "line 6, quantizers > q > bits_overrides > conv1 > wts: must be a whole number. Received: 'few'",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_line(read, text, expected):
    (line,) = told(read, text)
    assert line.startswith(expected)


def test_nothing_else_is_said_of_a_value_that_cannot_be_read(read):
    text = "pruners:\n  a:\n    class: !!python/name:os.system\n  b: !!set {}\npolicies: !!omap []\n"
    assert [line.split(":")[0] for line in told(read, text)] == [
        "line 3, pruners > a > class",
        "line 4, pruners > b",
        "line 5, policies",
    ]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\0", b"\xff\xfe", b"\t", b"# nothing\n", b"%", b"a: b: c"])
def test_what_is_no_schedule_file_is_one_input_error(tmp_path, content):
    (tmp_path / "schedule.yaml").write_bytes(content)
    with pytest.raises(InputError, match="schedule.yaml"):
        read_schedule(tmp_path / "schedule.yaml")


def test_a_directory_and_a_missing_file_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        read_schedule(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_schedule(tmp_path / "none.yaml")


def test_a_file_full_of_errors_is_refused_at_once(read):
    text = "".join(f"unknown_section_number_{i}: {{class: nothing}}\n" for i in range(4_000))
    start = time.process_time()
    lines = str(pytest.raises(InputError, read, text).value).split("\n  ")
    assert time.process_time() - start < 3
    assert lines[0].endswith("4000 errors")
    assert lines[-1] == "and 3800 more"


# Against a model

WRONG_FOR_THE_MODEL = """\
pruners:
  levels:
    class: SparsityLevelParameterPruner
    levels:
      '*': 0.5
      module.conv1.weight: 0.5
      module.layer1.0.conv2.weight: 0.5
      module.fc.wieght: 0.5
  rows:
    class: L1RankedStructureParameterPruner
    group_type: Rows
    desired_sparsity: 0.5
    weights: [fc.weight, conv1.weight]
  same:
    class: AutomatedGradualPruner
    initial_sparsity: 0
    final_sparsity: 0.5
    weights:
      - conv1/kernel
      - conv1.weight
regularizers:
  lasso:
    class: GroupLassoRegularizer
    reg_regims:
      conv1.weight: [1e-4, 3D]
      fc.weight: [1e-4, 2D]
      layer1.0.conv1.bias: [1e-4, 4D]
quantizers:
  q:
    class: DorefaQuantizer
    bits_weights: 4
    overrides:
      conv1: {bits_weights: 8}
      cov2: {bits_weights: 8}
policies:
  - pruner: {instance_name: levels, args: {levels: {nowhere: 0.1}}}
    epochs: [0]
"""


def test_all_that_does_not_suit_the_model_is_told_with_its_line(read, model):
    lines = told(check_against, read(WRONG_FOR_THE_MODEL), model)
    assert [line.partition(": ")[0] for line in lines] == [
        "line 7, pruners > levels > levels > module.layer1.0.conv2.weight",
        "line 8, pruners > levels > levels > module.fc.wieght",
        "line 13, pruners > rows > weights > item 2",
        "line 14, pruners > same",
        "line 26, regularizers > lasso > reg_regims > fc.weight",
        "line 27, regularizers > lasso > reg_regims > layer1.0.conv1.bias",
        "line 34, quantizers > q > overrides > cov2",
        "line 36, policies > policy 1 > pruner > args > levels > nowhere",
    ]
    assert (
        "the model has no parameter 'module.layer1.0.conv2.weight'; the nearest are layer1.0.conv1.weight" in lines[0]
    )
    assert "the nearest are fc.weight" in lines[1]
    assert "Received: 'Rows'" in lines[2]
    assert "are the same parameter" in lines[3]
    assert "Received: '2D'" in lines[4]


def test_an_override_in_the_older_spelling_has_its_line(read, model):
    item = "class: DorefaQuantizer, bits_weights: 2,\n    bits_overrides: {\n      cov1: {wts: 3}}"
    text = f"quantizers:\n  q: {{\n    {item}}}\n"
    (line,) = told(check_against, read(text), model)
    assert line.startswith("line 5, quantizers > q > overrides > cov1: ")


def test_a_schedule_that_suits_the_model_has_no_errors(read, model):
    schedule = read("""
pruners:
  levels: {class: SparsityLevelParameterPruner, levels: {'*': 0.5, module.conv1.weight: 0.25}}
  rows: {class: L1RankedStructureParameterPruner, group_type: Rows, desired_sparsity: 0.5, weights: fc/kernel}
quantizers:
  q: {class: WRPNQuantizer, bits_weights: 4, overrides: {conv1: {bits_weights: null}}}
policies:
  - pruner: {instance_name: levels, args: {levels: {fc.weight: 0.1}}}
    epochs: [0]
""")
    assert check_against(schedule, model) == []


def test_a_schedule_from_code_is_checked_too(model):
    document = {"pruners": {"p": {"class": "SensitivityPruner", "sensitivities": {"conv2.weight": 1}}}}
    with pytest.raises(InputError) as error:
        check_against(Schedule.from_dict(document), model)
    assert str(error.value).startswith(
        "the schedule: 1 error\n  pruners > p > sensitivities > conv2.weight: the model has no parameter 'conv2.weight'"
    )


def test_policies_that_come_too_late_are_warnings(read, model):
    schedule = read("""\
pruners:
  p: {class: AutomatedGradualPruner, initial_sparsity: 0, final_sparsity: 0.5, weights: [fc.weight]}
lr_schedulers:
  lr: {class: StepLR, step_size: 10}
policies:
  - pruner: {instance_name: p}
    starting_epoch: 0
    ending_epoch: 10
    frequency: 3
  - pruner: {instance_name: p}
    epochs: [9, 10]
  - lr_scheduler: {instance_name: lr}
    starting_epoch: 2
    ending_epoch: 200
""")
    assert check_against(schedule, model, 11) == []
    assert check_against(schedule, model, 9) == [
        "line 6, policies > policy 1: pruner 'p' does not come to its end in epoch 9: the training has 9, from 0 on",
        "line 10, policies > policy 2: pruner 'p' never acts: it starts in epoch 9, and the training has 9, from 0 on",
    ]
    assert len(check_against(schedule, model, 2)) == 3


# Anything at all is a schedule or an InputError

VALID = {
    "version": 1,
    "pruners": {
        "level": {"class": "SparsityLevelParameterPruner", "levels": {"*": 0.5, "conv1.weight": 0.25}},
        "sensitive": {"class": "SensitivityPruner", "sensitivities": {"conv1.weight": 0.5}},
        "splicing": {
            "class": "SplicingPruner",
            "sensitivities": {"conv1.weight": 0.5},
            "low_thresh_mult": 0.9,
            "hi_thresh_mult": 1.1,
        },
        "gradual": {
            "class": "AutomatedGradualPruner",
            "initial_sparsity": 0.05,
            "final_sparsity": 0.75,
            "weights": ["conv1.weight", "fc.weight"],
        },
        "blocks": {
            "class": "L1RankedStructureParameterPruner_AGP",
            "initial_sparsity": 0.05,
            "final_sparsity": 0.7,
            "group_type": "Blocks",
            "kwargs": {"block_shape": [1, 8, 1, 1]},
            "weights": ["conv1.weight"],
        },
    },
    "regularizers": {
        "l1": {"class": "L1Regularizer", "reg_regims": {"fc.weight": 1e-5}, "threshold_criteria": "Max"},
        "lasso": {"class": "GroupLassoRegularizer", "reg_regims": {"conv1.weight": [1e-5, "3D"]}},
    },
    "quantizers": {
        "q": {
            "class": "DorefaQuantizer",
            "bits_weights": 4,
            "bits_activations": None,
            "bits_overrides": {"conv1": {"wts": None, "acts": 8}},
        }
    },
    "lr_schedulers": {"lr": {"class": "MultiStepLR", "milestones": [60, 120], "gamma": 0.1}},
    "extensions": {"thinner": {"class": "FilterRemover", "arch": "resnet20_cifar", "dataset": "cifar10"}},
    "policies": [
        {
            "pruner": {"instance_name": "gradual", "args": {"keep_mask": True, "mini_batch_pruning_frequency": 16}},
            "starting_epoch": 0,
            "ending_epoch": 38,
            "frequency": 2,
        },
        {"regularizer": {"instance_name": "l1", "args": {"keep_mask": True}}, "epochs": [0, 1, 5]},
        {"quantizer": {"instance_name": "q"}, "starting_epoch": 0, "ending_epoch": 5},
        {"lr_scheduler": {"instance_name": "lr"}, "starting_epoch": 0, "ending_epoch": 5, "frequency": 1},
    ],
}
WORDS = ["class", "levels", "weights", "*", "conv1.weight", "epochs", "args", "3D", "1e-3", "(", "Blocks", "StepLR", ""]
junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -1, 2**63, 10**400]),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=5),
    st.dates(),
    st.binary(max_size=3),
    st.lists(st.integers(-1, 3) | st.text(max_size=3), max_size=3),
    st.dictionaries(st.sampled_from(WORDS) | st.integers() | st.none(), st.floats() | st.none(), max_size=2),
)


def places(value):
    """Every (container, key) in nested lists and dicts."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries):
        yield value, key
        yield from places(inner)


@st.composite
def mutated_documents(draw):
    """A valid document after some random changes of its values and keys."""
    document = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 2))):
        found = list(places(document))
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(["replace", "delete", "rename", "copy", "add"]))
        if change == "replace":
            container[key] = draw(junk)
        elif change == "delete":
            del container[key]
        elif change == "copy":
            other, other_key = draw(st.sampled_from(found))
            container[key] = copy.deepcopy(other[other_key])
        elif isinstance(container, dict):
            new_key = draw(st.sampled_from(WORDS) | st.text(max_size=4) | st.integers() | st.none())
            container[new_key] = container.pop(key) if change == "rename" else draw(junk)
        else:
            container.append(draw(junk))
    return yaml.dump(document, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=draw(st.booleans()))


@st.composite
def items_of_any_class(draw):
    """One item of any class with some of its arguments, and anything as their values."""
    section, classes = draw(st.sampled_from(list(REGISTRIES.items())))
    name, item_class = draw(st.sampled_from(list(classes.items())))
    values = st.floats(0, 1) | st.integers(0, 20) | st.sampled_from([*WORDS, ["conv1.weight"]]) | junk
    values |= st.dictionaries(st.sampled_from(["conv1.weight", "fc", "*"]), values, min_size=1, max_size=2)
    fields = item_class.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    others = draw(st.lists(st.sampled_from([*fields, "class"]), max_size=1))
    arguments = {name: draw(values) for name in [*required, *others]}
    return yaml.safe_dump({section: {"item": {**arguments, "class": name}}}, sort_keys=False)


VALID_TEXT = yaml.safe_dump(VALID, sort_keys=False)
FRAGMENTS = [
    *string.punctuation,
    "\t",
    "\n",
    " ",
    "&a ",
    "*a ",
    "<<: *a",
    "!!python/name:x ",
    "- ",
    "? ",
    ": ",
    "\n---\n",
    "é",
]


@st.composite
def mutated_texts(draw):
    """The text of a valid schedule after some random edits."""
    text = VALID_TEXT
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(text))), draw(st.sampled_from([0, 0, 1, 5, 40]))
        text = text[:at] + draw(st.sampled_from(FRAGMENTS) | st.text(max_size=3)) + text[at + length :]
    return text


def reads_or_refuses(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    start = time.process_time()
    schedule, refusal = None, ""
    try:
        schedule = read_schedule(path)
    except InputError as error:
        refusal = str(error)
    assert time.process_time() - start < 2
    if schedule is None:
        assert refusal.startswith(str(path))
        assert "Input should" not in refusal or "Input should" in text  # pydantic's words
        assert "pydantic" not in refusal
    else:
        assert Schedule.from_dict(yaml.safe_load(schedule.to_yaml())) == schedule


FUZZ = {
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
}


@settings(max_examples=800, **FUZZ)
@given(text=mutated_documents())
def test_any_change_of_a_valid_document_is_read_or_refused(tmp_path, text):
    reads_or_refuses(tmp_path / "schedule.yaml", text)


@settings(max_examples=500, **FUZZ)
@given(text=items_of_any_class())
def test_any_arguments_of_any_class_are_read_or_refused(tmp_path, text):
    reads_or_refuses(tmp_path / "schedule.yaml", text)


@settings(max_examples=700, **FUZZ)
@given(text=mutated_texts())
def test_any_change_of_a_valid_text_is_read_or_refused(tmp_path, text):
    reads_or_refuses(tmp_path / "schedule.yaml", text)


@settings(max_examples=300, **FUZZ)
@given(text=st.text(max_size=60) | st.lists(st.sampled_from([*FRAGMENTS, *WORDS, "pruners"]), max_size=20).map("".join))
def test_any_text_is_read_or_refused(tmp_path, text):
    reads_or_refuses(tmp_path / "schedule.yaml", text)


@pytest.mark.parametrize(("quantizer", "count"), [("DorefaQuantizer", 1), ("WRPNQuantizer", 0)])
def test_a_quantizer_without_a_zero_is_warned_of_where_weights_are_pruned(quantizer, count, read, model):
    schedule = read(f"""
pruners: {{p: {{class: SparsityLevelParameterPruner, levels: {{conv1.weight: 0.5}}}}}}
quantizers: {{q: {{class: {quantizer}, bits_weights: 4}}}}
policies:
  - pruner: {{instance_name: p}}
    epochs: [0]
  - quantizer: {{instance_name: q}}
    epochs: [0]
""")
    warnings = check_against(schedule, model)
    assert len(warnings) == count
    assert all("has no zero among its values: pruned weights do not stay zero" in line for line in warnings)
