"""Imports point one way: main -> learners -> {export, compressors, rl_agents, nets} -> {datasets, utils}."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
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
    "scripts": {"datasets", "utils"},
}
# The door for Python users stands where users look for pruners; nothing behind it may use it.
DOOR = "compressors/pruner_api.py"
MAY_USE_THE_DOOR = {"trimflow.py"}
MAY_IMPORT_ABSL_FLAGS = {"commands/command_line.py", "utils/flags.py"}
TOO_SLOW_FOR_HELP = {"tensorflow", "keras"}
# What is there before TensorFlow, or does without it: the command line and all commands up to their work, launchers,
# reports and pages, what runs exported files, and the parts of a search that are NumPy alone.
WITHOUT_TENSORFLOW = [
    "main", "commands.compare", "commands.export", "commands.sweep", "commands.sweep_check", "compressors.ratios",
    "compressors.schedules", "export.comparison.comparison", "export.page.html", "export.page.markdown",
    "export.peak_memory", "export.plots", "export.report", "export.runtimes", "launchers.job", "launchers.mpijob",
    "launchers.preflight", "launchers.seven", "launchers.worker", "learners.config",
    "learners.weight_sparsification.rollout_env", "learners.weight_sparsification.sweep_family",
    "learners.weight_sparsification.sweep_screen", "nets.learning_rates", "rl_agents.ddpg.noise", "rl_agents.replay",
]  # fmt: skip


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


def run_at_once(statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the file itself is imported: not those in functions, nor those for type checkers."""
    for statement in statements:
        is_for_types = isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types:
            continue
        yield statement
        for inner in ("body", "handlers", "orelse", "finalbody"):
            yield from run_at_once(getattr(statement, inner, []))


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """The modules whose import runs when the file itself is imported."""
    for statement in run_at_once(tree.body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from imported_modules(statement)


def import_cycles(root: Path) -> list[str]:
    """Each module that, when it is imported, imports itself again through others."""
    trees = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree for name, tree in sources(root)}
    imports_of = {}
    for module, tree in trees.items():
        named = set(imported_at_once(tree))
        # Of `from a import b` a module b alone: a package that gathers its modules is imported with each of them.
        parents = {name.rpartition(".")[0] for name in named if name in trees}
        imports_of[module] = {name for name in named if name in trees and name not in parents} - {module}

    def reached(module: str) -> set[str]:
        found: set[str] = set()
        waiting = [module]
        while waiting:
            new = imports_of[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    return sorted(module for module in trees if module in reached(module))


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


def test_no_module_of_this_repository_imports_itself_through_others():
    assert import_cycles(ROOT) == []


def test_what_comes_before_tensorflow_does_not_load_it():
    code = f"import sys, {', '.join(WITHOUT_TENSORFLOW)}; print(*sorted({TOO_SLOW_FOR_HELP} & sys.modules.keys()))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


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
        ("export/a.py", "class A:\n    def f(self):\n        import learners.config"),
        ("commands/a.py", "import main"),
        ("launchers/a.py", "from learners.config import RunConfig"),
        ("scripts/a.py", "from learners.config import RunConfig"),
        ("utils/a.py", "import scripts.print_coverage"),
        ("learners/a.py", "import trimflow"),
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


def test_modules_that_import_each_other_are_found(tmp_path):
    files = {
        "nets/a.py": "from nets import b",
        "nets/b.py": "import nets.c",
        "nets/c.py": "try:\n    from nets.a import x\nexcept ImportError:\n    pass",
        "nets/d.py": "from nets.a import x",
    }
    assert import_cycles(write_tree(tmp_path, files)) == ["nets.a", "nets.b", "nets.c"]


def test_what_is_imported_later_or_for_types_closes_no_circle(tmp_path):
    files = {
        "nets/__init__.py": "from nets.a import x",  # a package that gathers its modules
        "nets/a.py": "from nets import b",
        "nets/b.py": "class B:\n    def f(self):\n        import nets.a",
        "nets/c.py": "import typing\nif typing.TYPE_CHECKING:\n    import nets.d",
        "nets/d.py": "import nets.c",
    }
    assert import_cycles(write_tree(tmp_path, files)) == []
