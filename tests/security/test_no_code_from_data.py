"""Nothing in the tree turns data into code: by the syntax trees of all Python files of the program and its tools."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
# Each with what is to be used in its place.
FORBIDDEN_CALLS = {
    "eval": "ast.literal_eval, or a table",
    "exec": "an import",
    "os.system": "subprocess.run with a list",
    "os.popen": "subprocess.run with a list",
    "subprocess.getoutput": "subprocess.run with a list",
    "subprocess.getstatusoutput": "subprocess.run with a list",
    "tempfile.mktemp": "tempfile.mkstemp",
    "torch.load": "np.load",
    "pandas.read_pickle": "np.load",
    "yaml.load": "compressors/yaml_document.py",
    "yaml.load_all": "compressors/yaml_document.py",
    "yaml.unsafe_load": "compressors/yaml_document.py",
    "yaml.full_load": "compressors/yaml_document.py",
    "yaml.safe_load": "compressors/yaml_document.py",
    "yaml.safe_load_all": "compressors/yaml_document.py",
    "keras.models.load_model": "utils/keras_files.py",
    "keras.saving.load_model": "utils/keras_files.py",
    "keras.models.model_from_json": "utils/keras_files.py",
    "keras.config.enable_unsafe_deserialization": "utils/keras_files.py",
    "shutil.unpack_archive": "zipfile or tarfile, member by member",
}
ONLY_IN = {"keras.saving.load_model": "utils/keras_files.py"}
UNPACKING_METHODS = {"extractall", "extract"}


def committed_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [name for name in listed.stdout.split("\0") if name]
    return [  # a copy without git, such as in an image
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if not {part for part in path.relative_to(ROOT).parts if part.startswith(".")}
    ]


def dotted(node: ast.AST) -> str:
    """`a.b.c` of such an expression, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def aliases(tree: ast.AST) -> dict[str, str]:
    """Name in the file -> what it stands for: `np` -> `numpy`, `run` -> `subprocess.run`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def problems(source: str, name: str = "") -> list[str]:
    """What in a file could make code of data, or hand a string to a shell."""
    tree = ast.parse(source)
    names, found = aliases(tree), [f"imports {module}" for module in imported(tree) if module in FORBIDDEN_MODULES]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, _, rest = dotted(node.func).partition(".")
        called = ".".join(filter(None, (names.get(first, first), rest)))
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        if called in FORBIDDEN_CALLS and ONLY_IN.get(called) != name:
            found.append(f"calls {called} instead of {FORBIDDEN_CALLS[called]}")
        if called == "numpy.load" and not is_constant(options.get("allow_pickle"), False):
            found.append("calls numpy.load without allow_pickle=False")
        if called == "keras.saving.load_model" and "safe_mode" not in options:
            found.append("calls load_model without safe_mode")
        if called.endswith("deserialize_keras_object") and name == "utils/keras_files.py":
            found += [] if is_constant(options.get("safe_mode"), True) else ["deserializes without safe_mode=True"]
        if "shell" in options and not is_constant(options["shell"], False):
            found.append("starts a shell")
        if isinstance(node.func, ast.Attribute) and node.func.attr in UNPACKING_METHODS:
            found.append(f"calls {node.func.attr} of an archive")
    return found


def is_constant(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_file_of_the_program_makes_code_of_data_or_hands_a_string_to_a_shell():
    names = [name for name in committed_files() if not name.startswith("tests/")]
    assert {"main.py", "utils/workers.py", "scripts/fetch_file.py"} <= set(names)
    found = {name: problems((ROOT / name).read_text(encoding="utf-8"), name) for name in names}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import pickle", "imports pickle"),
        ("def f():\n    from cloudpickle import loads", "imports cloudpickle"),
        ("import numpy as np\nnp.load('a')", "calls numpy.load without allow_pickle=False"),
        ("from numpy import load\nload('a', allow_pickle=True)", "calls numpy.load without allow_pickle=False"),
        ("import subprocess\nsubprocess.run('ls', shell=True)", "starts a shell"),
        ("from os import system as run\nrun('ls')", "calls os.system instead of subprocess.run with a list"),
        ("eval('1')", "calls eval instead of ast.literal_eval, or a table"),
        ("import yaml\nyaml.load('a')", "calls yaml.load instead of compressors/yaml_document.py"),
        ("import keras\nkeras.models.load_model('a')", "calls keras.models.load_model instead of utils/keras_files.py"),
        ("archive.extractall('a')", "calls extractall of an archive"),
    ],
)
def test_the_look_itself_finds_what_it_looks_for(source, problem):
    assert problems(source) == [problem]


def test_the_look_lets_pass_what_is_safe():
    assert problems("import numpy as np, subprocess\nnp.load('a', allow_pickle=False)\nsubprocess.run(['ls'])") == []
    assert problems("import ast\nast.literal_eval('1')\nmodel.evaluate(x)") == []
