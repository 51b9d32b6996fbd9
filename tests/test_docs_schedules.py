"""docs/schedules.md: it names every class and argument with the right default, and its examples are true."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import keras
import pydantic
import pytest
import yaml

from compressors.extensions import EXTENSIONS
from compressors.lr_schedulers import LR_SCHEDULERS
from compressors.plan import make_plan
from compressors.plan_table import format_plan
from compressors.policy_specs import PruningArguments, RegularizationArguments
from compressors.pruners import PRUNERS
from compressors.quantizers import QUANTIZERS
from compressors.quantizers.overrides import Override
from compressors.quantizers.post_training import InputOverride, PostTrainOverride
from compressors.regularizers import REGULARIZERS
from compressors.schedule import Schedule
from compressors.schedule_yaml import check_against, read_schedule
from learners.scheduled.config import DistillationConfig, ScheduleConfig
from nets.architectures import build_architecture
from utils.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "schedules.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)  # (language, content)
SCHEDULES = [content for language, content in BLOCKS if language == "yaml"]
REGISTRIES = {
    "Pruners": PRUNERS,
    "Regularizers": REGULARIZERS,
    "Quantizers": QUANTIZERS,
    "Learning rates": LR_SCHEDULERS,
    "Extensions": EXTENSIONS,
}
CLASSES = [(section, name) for section, classes in REGISTRIES.items() for name in classes]


@pytest.fixture(scope="module")
def resnet():
    return build_architecture("resnet_20", 10, (32, 32, 3))


def section_of(heading):
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S).group(1)


def arguments_of(section, name):
    """What the tables say of a class's arguments: name -> default as written, None for none."""
    found = {}
    for row in re.findall(r"^\|(.*)\|$", section, re.M):
        classes, *cells = row.split("|")
        if cells and name in re.findall(r"`(\w+)`", classes):
            found |= {key: default or None for key, default in re.findall(r"`(\w+)(?:=([^`]+))?`", cells[0])}
    return found


def default_of(field, text):
    """The value that the class makes of a default as it is written in the table."""
    value = float(Fraction(text)) if re.fullmatch(r"\d+/\d+", text) else yaml.safe_load(text)
    return pydantic.TypeAdapter(Annotated[field.annotation, "", *field.metadata]).validate_python(value)


@pytest.mark.parametrize(("heading", "name"), CLASSES)
def test_every_class_is_there_with_its_arguments_and_defaults(heading, name):
    section, fields = section_of(heading), REGISTRIES[heading][name].model_fields
    assert f"| `{name}`" in section or f", `{name}`" in section
    said = arguments_of(section, name)
    assert not said.keys() - fields.keys()
    for key, field in fields.items():
        assert f"`{key}`" in section or key in said
        if key in ("last_epoch", "verbose") and key not in said:
            continue  # without effect; told once for all
        assert key in said
        if field.is_required():
            assert said[key] is None
        else:
            assert default_of(field, said[key]) == field.get_default()


def test_every_class_of_the_tables_exists():
    for heading, classes in REGISTRIES.items():
        named = re.findall(r"`([A-Z]\w+(?:Pruner|Regularizer|Quantizer|Remover|LR|AGP))`", section_of(heading))
        assert named
        assert set(named) <= set(classes)


@pytest.mark.parametrize("arguments", [PruningArguments, RegularizationArguments])
def test_every_argument_of_a_policy_is_there(arguments):
    section = section_of("Arguments of a policy")
    for name, field in arguments.model_fields.items():
        default = re.search(rf"^\| `{name}` \| (\w+) \|", section, re.M).group(1)
        assert default_of(field, default) == field.get_default()


@pytest.mark.parametrize("override", [Override, PostTrainOverride, InputOverride])
def test_every_key_of_an_override_is_there(override):
    for name in override.model_fields:
        assert f"`{name}`" in section_of("Quantizers")


@pytest.mark.parametrize("config", [ScheduleConfig(), DistillationConfig()])
def test_every_flag_is_there_with_its_default(config):
    for name, field in type(config).__dataclass_fields__.items():
        default = getattr(config, name)
        written = {"": "unset", False: "false"}.get(default, str(default)) if default != 0 or default is False else "0"
        written = str(default) if isinstance(default, float) else written
        assert f"| `--{field.metadata.get('name') or name}` | {written} |" in TEXT


def test_every_recipe_is_there():
    for path in (ROOT / "recipes").rglob("*.yaml"):
        assert f"`{path.name}`" in section_of("Recipes")


@pytest.mark.parametrize("content", SCHEDULES)
def test_every_schedule_is_read_and_suits_resnet_20_without_a_warning(content, resnet, tmp_path):
    path = tmp_path / "schedule.yaml"
    path.write_text(content)
    schedule = read_schedule(path)
    assert not check_against(schedule, resnet, 8)
    assert not schedule.warnings


def test_there_are_schedules():
    assert len(SCHEDULES) >= 4


def printed_after(*words):
    """The content of the first block without a language after some words of the text."""
    at = TEXT.index(" ".join(words))
    return re.search(r"^```\n(.*?)^```$", TEXT[at:], re.M | re.S).group(1)


def test_the_plan_is_what_a_dry_run_prints(resnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("example.yaml").write_text(SCHEDULES[0])
    plan = make_plan(read_schedule("example.yaml"), resnet, num_epochs=8, base_rate=0.1)
    assert format_plan(plan) == printed_after("The dry run of this file")


def test_the_errors_are_what_is_printed(resnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("wrong.yaml").write_text(printed_after("This file, `wrong.yaml`,"))
    with pytest.raises(InputError) as error:
        read_schedule("wrong.yaml")
    assert f"error: {error.value}\n" == printed_after("\ngives\n")


def test_the_error_of_an_unknown_name_is_what_is_printed(resnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("module.conv1.weight", "module.layer4.0.conv1.weight")
    levels = "\n".join(f"      {name}: 0.5" for name in names)
    Path("wrong.yaml").write_text(
        f"pruners:\n  one_shot:\n    class: SparsityLevelParameterPruner\n    levels:\n{levels}\n"
        "policies:\n  - pruner:\n      instance_name: one_shot\n    epochs: [0]\n"
    )
    with pytest.raises(InputError) as error:
        check_against(read_schedule("wrong.yaml"), resnet)
    assert f"error: {error.value}\n" == printed_after("its names are looked up in the network")


def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    distilling, program = (content for language, content in BLOCKS if language == "python")
    small = program.replace("BATCH, RATE = 4, 50, 32,", "BATCH, RATE = 4, 2, 8,")
    assert small != program
    names = {}
    exec(small, names)
    printed = capsys.readouterr().out
    model = keras.models.load_model("compressed.keras")
    for layer in ("fc1", "fc2"):
        kernel = model.get_layer(layer).kernel.numpy()
        assert (kernel == 0).sum() == int(0.8 * kernel.size)
    schedule = Schedule.from_dict(yaml.safe_load(printed[: printed.index("epoch 0:")]))
    assert schedule == names["scheduler"].to_schedule()
    exec(distilling, names | {"student": model, "teacher": names["scheduler"].model})


def test_the_links_lead_somewhere():
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        path, _, anchor = target.partition("#")
        assert not path or (ROOT / "docs" / path).exists()
        headings = [heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", TEXT, re.M)]
        assert not anchor or anchor in headings
