"""Files that people write: path.conf and schedules; and command lines."""

import functools
import json
import random
from pathlib import Path

import keras
import pytest
import yaml

from commands.command_line import read_command_line
from compressors.schedule_yaml import check_against, read_schedule
from tests.fuzz.driver import fuzz, put
from tests.fuzz.mutations import NUMBERS, WORDS, changed_value, mutated
from utils.errors import InputError
from utils.flags import flag_fields
from utils.path_conf import path_conf_flags, read_path_conf

ROOT = Path(__file__).resolve().parents[2]


def test_path_conf_is_read_or_refused_with_the_files_name(tmp_path):
    path = tmp_path / "path.conf"
    sound = [
        (ROOT / "path.conf.template").read_bytes(),
        b"data_dir_local_cifar10 = ~/data\ndata_hdfs_host = host:9000\n# more\ndata_dir_hdfs_ilsvrc12 = /a b\n",
        b"\xef\xbb\xbfmodel_http_url = https://a/b\r\nimage_seven = None\r\ndata_dir_seven_runs=/x\r\n",
    ]

    def read(content):
        put(path, content)
        settings = read_path_conf(path)
        assert all(value.isprintable() for value in settings.values())
        assert set(path_conf_flags(settings, "cifar10").values()) <= set(settings.values())

    fuzz(functools.partial(mutated, samples=sound), read, names=str(path))


def test_schedules_are_read_or_refused_with_the_files_name(tmp_path):
    path = tmp_path / "schedule.yaml"
    files = sorted((ROOT / "recipes").rglob("*.yaml"))
    texts = [file.read_bytes() for file in files]
    values = [json.loads(json.dumps(yaml.safe_load(text), default=str)) for text in texts]

    def draw(rng):
        kind = rng.randrange(10)
        if kind < 5:
            value = changed_value(rng, rng.choice(values))
            return yaml.safe_dump(value, allow_unicode=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        return mutated(rng, texts) if kind < 8 else _yaml(rng, 0).encode("utf-8", "surrogatepass")

    def read(content):
        put(path, content)
        schedule = read_schedule(path)
        assert all(policy.instance_name for policy in schedule.policies)

    fuzz(draw, read, names=str(path))


def test_schedules_suit_a_network_or_are_refused(tmp_path):
    path = tmp_path / "schedule.yaml"
    layers = [keras.layers.Conv2D(4, 3, name="conv"), keras.layers.Flatten(), keras.layers.Dense(2, name="fc")]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    value = {
        "version": 1,
        "pruners": {
            "agp": {
                "class": "AutomatedGradualPruner",
                "initial_sparsity": 0.05,
                "final_sparsity": 0.8,
                "weights": ["conv.weight", "fc.weight"],
            }
        },
        "regularizers": {"l1": {"class": "L1Regularizer", "reg_regims": {"fc.weight": 0.001}}},
        "lr_schedulers": {"lr": {"class": "StepLR", "step_size": 10, "gamma": 0.1}},
        "policies": [
            {"pruner": {"instance_name": "agp"}, "starting_epoch": 0, "ending_epoch": 6, "frequency": 2},
            {"regularizer": {"instance_name": "l1"}, "starting_epoch": 0, "ending_epoch": 6, "frequency": 1},
            {"lr_scheduler": {"instance_name": "lr"}, "starting_epoch": 0, "ending_epoch": 9, "frequency": 1},
        ],
    }

    def draw(rng):
        return yaml.safe_dump(changed_value(rng, value)).encode("utf-8", "surrogatepass")

    def read(content):
        put(path, content)
        assert all(isinstance(warning, str) for warning in check_against(read_schedule(path), model, 10))

    check_against(read_schedule(_written(path, value)), model, 10)
    fuzz(draw, read, inputs=500, names=str(path))


def _written(path, value):
    path.write_text(yaml.safe_dump(value))
    return path


def _yaml(rng: random.Random, depth: int) -> str:
    """YAML, or nearly, by its grammar: anchors, aliases, merges, tags, blocks, flows, several documents."""
    pad = "  " * depth
    kind = rng.randrange(12) if depth < 6 else rng.randrange(5)
    if kind < 3:
        return str(
            rng.choice((*NUMBERS, *map(json.dumps, WORDS), "~", "1e3", "0o7", "1:30", "2001-01-01", "yes", ".inf"))
        )
    if kind == 3:
        return rng.choice(
            ("*a", "*b", "&a 1", "&b [1]", "!!python/object:os.system x", "!!binary eA==", "!x 1", "!!int a")
        )
    if kind == 4:
        return rng.choice(
            ("|\n" + pad + "  text", ">-\n" + pad + "  text", "'it''s", '"\\ud800"', "@", "`", "%", "\t", "")
        )
    if kind < 7:
        return "\n" + "".join(f"{pad}- {_yaml(rng, depth + 1)}\n" for _ in range(rng.randrange(1, 4)))
    if kind == 7:
        return "{" + ", ".join(f"{_key(rng)}: {_yaml(rng, 9)}" for _ in range(rng.randrange(3))) + rng.choice("}}}]")
    if kind == 8:
        return "[" * rng.choice((1, 3, 60, 3000))
    if kind == 9:
        return f"1\n--- {_yaml(rng, depth + 1)}\n..."
    return "\n" + "".join(f"{pad}{_key(rng)}: {_yaml(rng, depth + 1)}\n" for _ in range(rng.randrange(1, 5)))


def _key(rng: random.Random) -> str:
    own = ("version", "pruners", "policies", "class", "levels", "instance_name", "epochs", "quantizers")
    return rng.choice((*own, *own, "<<", "? [a]", "1", "&a k", "*a", "!!str k", "''", "null"))


@pytest.mark.parametrize("paths_are_here", [True, False])
def test_command_lines_are_read_or_refused(paths_are_here):
    from commands.command_line import FLAG_GROUPS

    fields = {name: field for group in FLAG_GROUPS for name, field in flag_fields(group).items()}
    nets = [f"nets/{path.name}" for path in sorted((ROOT / "nets").glob("*_run.py"))]

    def value_of(rng, name):
        field = fields[name]
        if field.metadata["choices"] and rng.random() < 0.7:
            return rng.choice(field.metadata["choices"])
        return rng.choice(
            (*map(repr, NUMBERS), *WORDS, str(field.default), "nan", "inf", "0.5", "all", "none", "a,b", "1/255")
        )

    def draw(rng):
        words = [rng.choice((*nets, *nets, *nets, "nets/none_run.py", "", "\x00", "-"))]
        for _ in range(rng.randrange(6)):
            name = rng.choice(list(fields))
            form = rng.randrange(8)
            value = value_of(rng, name)
            words += {
                0: [f"--{name}", value],
                1: [f"--no{name}"],
                2: [f"--{name[:-1]}={value}"],
                3: [rng.choice(WORDS)],
                4: [f"-{name}={value}"],
            }.get(form, [f"--{name}={value}"])
        return words

    def read(words):
        command = read_command_line(words, paths_are_here)
        assert command.given <= fields.keys()

    fuzz(draw, read, inputs=500, errors=(InputError,))
