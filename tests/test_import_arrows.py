"""Imports point one way: main -> learners -> {export, compressors, rl_agents, nets} -> {datasets, utils}."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "main": {"commands", "learners", "export", "compressors", "rl_agents", "nets", "utils"},
    "commands": {"learners", "export", "compressors", "rl_agents", "nets", "utils"},
    "launchers": {"main", "commands", "utils"},
    "trimflow": {"learners", "export", "compressors", "rl_agents", "nets", "utils"},
    "learners": {"export", "compressors", "rl_agents", "nets", "utils"},
    "export": {"utils"},
    "compressors": {"utils"},
    "rl_agents": {"utils"},
    "nets": {"datasets", "utils"},
    "datasets": {"utils"},
    "utils": set(),
}
# The door for Python users stands where users look for pruners; nothing behind it may use it.
DOOR = "compressors/pruner_api.py"
MAY_USE_THE_DOOR = {"trimflow.py"}
MAY_IMPORT_ABSL_FLAGS = {"commands/command_line.py", "utils/flags.py"}
TOO_SLOW_FOR_HELP = {"tensorflow", "keras"}


def sources(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Path below `root` and syntax tree of each file of the program itself (not of tests, benchmarks or scripts)."""
    for house in MAY_IMPORT:
        for path in [root / f"{house}.py", *sorted((root / house).rglob("*.py"))]:
            if path.is_file():
                yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, and, for `from a import b`, also `a.b`, which may be one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """The modules whose import runs when the file itself is imported: those outside functions."""
    for statement in tree.body:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported_modules(statement)


def wrong_imports(root: Path) -> list[str]:
    """Each import against an arrow, as `file imports module`."""
    wrong = []
    for name, tree in sources(root):
        house = name.removesuffix(".py").split("/")[0]
        # A net script is also a program: run by itself, it starts main.
        allowed = MAY_IMPORT["trimflow" if name == DOOR else house] | {house}
        if name.endswith("_run.py"):
            allowed = allowed | {"main"}
        for module in imported_modules(tree):
            if module == "compressors.pruner_api" and name not in MAY_USE_THE_DOOR:
                wrong.append(f"{name} imports {module}")
            top = module.split(".")[0]
            is_ours = top in MAY_IMPORT or top in ("", "tests", "benchmarks", "scripts")
            is_flags = f"{module}.".startswith("absl.flags.") and name not in MAY_IMPORT_ABSL_FLAGS
            if (is_ours and top not in allowed) or is_flags:
                wrong.append(f"{name} imports {module}")
    return wrong


def slow_config_imports(root: Path) -> list[str]:
    """Each config module that loads TensorFlow or Keras, itself or through others of our modules."""
    imports_of = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): set(imported_at_once(tree))
        for name, tree in sources(root)
    }

    def loads(module: str, seen: set[str]) -> bool:
        if module.split(".")[0] in TOO_SLOW_FOR_HELP:
            return True
        parents = [module.rsplit(".", count)[0] for count in range(module.count(".") + 1)]
        new = [name for name in parents if name in imports_of and name not in seen]
        seen.update(new)
        return any(loads(imported, seen) for name in new for imported in sorted(imports_of[name]))

    configs = [module for module in imports_of if module.split(".")[-1].endswith("config")]
    return [module for module in configs if loads(module, set())]


def test_imports_of_this_repository_follow_the_arrows():
    assert wrong_imports(ROOT) == []


def test_config_modules_of_this_repository_load_no_tensorflow():
    assert slow_config_imports(ROOT) == []


def test_the_whole_program_is_looked_at():
    names = {name for name, _ in sources(ROOT)}
    assert {"utils/flags.py", "datasets/config.py", "nets/config.py", "nets/resnet_at_cifar10_run.py"} <= names
    houses = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert houses <= set(MAY_IMPORT), "a new package needs its arrows here"


def write_tree(root: Path, files: dict[str, str]) -> Path:
    """Writes a program below `root`: path -> code."""
    for name, code in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(code)
    return root


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("utils/a.py", "import datasets.cifar10"),
        ("compressors/a.py", "from nets import resnet"),
        ("compressors/a.py", "def f():\n    from rl_agents.replay import Transition"),
        ("rl_agents/a.py", "import compressors"),
        ("learners/a.py", "from datasets.config import DataConfig"),
        ("export/a.py", "from learners.learner import Learner"),
        ("nets/a.py", "import main"),
        ("datasets/a.py", "from tests.helpers import fake"),
        ("compressors/a.py", "from . import masks"),
        ("learners/a.py", "from absl import flags"),
        ("nets/a.py", "from absl.flags import FLAGS"),
        ("nets/a.py", "import absl.flags as f"),
        ("learners/a.py", "from compressors.pruner_api import LevelPruner"),
        ("compressors/pruner_api.py", "import main"),
    ],
)
def test_an_import_against_the_arrows_is_found(tmp_path, name, code):
    assert len(wrong_imports(write_tree(tmp_path, {name: code}))) >= 1


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("commands/command_line.py", "from absl import app, flags\nfrom learners import learner"),
        ("utils/flags.py", "from absl import flags as absl_flags"),
        ("nets/lenet_at_cifar10_run.py", "if __name__ == '__main__':\n    import main"),
        ("learners/a.py", "import tensorflow as tf\nfrom absl import logging\nfrom nets.config import NetConfig"),
        ("compressors/a.py", "from compressors.masks import MaskSet\nfrom utils.errors import InputError"),
        ("benchmarks/a.py", "import datasets.cifar10, main"),
        ("compressors/pruner_api.py", "from learners.weight_sparsification.search_pruner import SearchPruner"),
        ("trimflow.py", "from compressors.pruner_api import SearchPruner"),
    ],
)
def test_an_import_along_the_arrows_is_fine(tmp_path, name, code):
    assert wrong_imports(write_tree(tmp_path, {name: code})) == []


def test_tensorflow_behind_a_config_module_is_found(tmp_path):
    files = {
        "nets/config.py": "from utils.shapes import Shape",
        "utils/shapes.py": "from utils import deep",
        "utils/deep.py": "from tensorflow import keras",
        "learners/config.py": "def build():\n    import tensorflow",
        "compressors/__init__.py": "import keras",
        "compressors/path_config.py": "import dataclasses",
    }
    assert slow_config_imports(write_tree(tmp_path, files)) == ["compressors.path_config", "nets.config"]
