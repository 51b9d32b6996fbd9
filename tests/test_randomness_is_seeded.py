"""What could make two runs differ is not in the program: random numbers without a seed, orders that nobody chose."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSES = (
    "main",
    "trimflow",
    "commands",
    "nets",
    "datasets",
    "compressors",
    "rl_agents",
    "learners",
    "export",
    "utils",
)  # fmt: skip; launchers compute nothing

# Draws that need no seed of ours because they draw nothing, or because the seed is in the call. Others are refused.
GENERATORS = {"default_rng", "Philox", "SeedSequence"}  # of np.random; with an argument
TYPES = {"Generator", "BitGenerator"}  # of np.random: named in annotations, and made from one of the above
SEEDING = {"set_random_seed"}  # of keras.utils; with an argument
# These put Python's own generator back to where it was.
MAY_IMPORT_RANDOM = {"compressors/working_copy.py"}
NEVER = {"os.urandom", "uuid.uuid1", "uuid.uuid4"}
CLOCKS = {"time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "getpid"}
LISTINGS = {"glob", "rglob", "iglob", "iterdir", "listdir"}  # in the order of the disk; and os.scandir
ORDER_DOES_NOT_MATTER = {"sorted", "any", "all", "len", "set", "frozenset", "sum", "max", "min"}
# What is done with each entry does not depend on those before it, or it is sorted later.
MAY_LIST = {
    "datasets/digits32_cache.py": "deletes what a killed process left",
    "datasets/ilsvrc12/conversion_check.py": "the caller sorts",
    "datasets/ilsvrc12/conversion_source.py": "sorts the names below",
    "learners/lottery_ticket/learner.py": "deletes checkpoints",
    "learners/weight_sparsification/sweep_family.py": "deletes, or compares as a set",
    "utils/run_dir.py": "compares with a list of one",
}


def sources(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Path below `root` and syntax tree of each file of the program."""
    for house in HOUSES:
        for path in [root / f"{house}.py", *sorted((root / house).rglob("*.py"))]:
            if path.is_file():
                yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def doubtful(name: str, tree: ast.Module) -> Iterator[str]:
    """Each place where chance comes in, as `file:line what`."""
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        for problem in (*_imports(name, node), *_draws(node, parents), *_orders(name, node, parents)):
            yield f"{name}:{getattr(node, 'iter', node).lineno} {problem}"


def _imports(name: str, node: ast.AST) -> Iterator[str]:
    modules = []
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        modules = [
            node.module or "",
            *(f"{node.module}.{alias.name}" for alias in node.names if alias.name == "random"),
        ]
    for module in modules:
        if module == "secrets" or (module == "random" and name not in MAY_IMPORT_RANDOM):
            yield f"imports {module}"
        if isinstance(node, ast.ImportFrom) and module.endswith("random"):
            yield f"imports from {module}, where this test cannot see who draws"


def _draws(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[str]:
    if not isinstance(node, ast.Attribute):
        return
    text, parent = ast.unparse(node), parents.get(node)
    call = parent if isinstance(parent, ast.Call) and parent.func is node else None
    owner, _, what = text.rpartition(".")
    if text in NEVER:
        yield text
    if owner in ("np.random", "numpy.random") and what not in TYPES:
        if what not in GENERATORS:
            yield f"{text} draws from the generator of the whole process"
        elif not _has_seed(call):
            yield f"{text} without a seed"
    if owner == "random" and what not in ("getstate", "setstate"):
        yield f"{text} draws from the generator of the whole process"
    if owner in ("tf.random", "tensorflow.random") and not what.startswith("stateless_"):
        yield f"{text} has a state that no checkpoint holds"
    if owner == "keras.random" and (call is None or not any(word.arg == "seed" for word in call.keywords)):
        yield f"{text} without a seed"
    if what in SEEDING and not _has_seed(call):
        yield f"{text} without a seed"


def _has_seed(call: ast.Call | None) -> bool:
    """Whether there is an argument that is neither None nor a time."""
    if call is None:
        return False
    given = [*call.args, *(word.value for word in call.keywords)]
    names = {part.attr for value in given for part in ast.walk(value) if isinstance(part, ast.Attribute)}
    is_none = any(isinstance(value, ast.Constant) and value.value is None for value in given)
    return bool(given) and not is_none and not names & CLOCKS


def _orders(name: str, node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[str]:
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        what = called.rpartition(".")[2]
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        is_listing = what in LISTINGS or called == "os.scandir"
        if is_listing and name not in MAY_LIST and not _is_ordered(node, parents):
            yield f"{called} without sorted"
        if called == "hash":
            yield "hash(), which is another number in every process"
        if "num_parallel_calls" in words and words.get("deterministic") != "True":
            yield f"{called} of tf.data without deterministic=True"
        if what == "shuffle" and isinstance(node.func, ast.Attribute) and "seed" not in words:
            yield f"{called} without a seed"
        if called in ("list", "tuple", "enumerate", "zip") or what == "join":
            yield from (f"{called} of a set" for argument in node.args if _is_set(argument))
    if isinstance(node, ast.For | ast.comprehension) and _is_set(node.iter):
        is_set = isinstance(parents.get(node), ast.SetComp)
        if not is_set and not _is_ordered(parents.get(node), parents):
            yield "goes through a set, whose order is another one in every process"


def _is_ordered(node: ast.AST | None, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether the value goes, at once or through a comprehension, to what does not look at the order."""
    while (parent := parents.get(node)) is not None:
        if isinstance(parent, ast.SetComp):
            return True
        if isinstance(parent, ast.Call):
            return ast.unparse(parent.func) in ORDER_DOES_NOT_MATTER
        is_part = ast.comprehension | ast.GeneratorExp | ast.ListComp | ast.withitem | ast.Starred | ast.List
        if not isinstance(parent, is_part):
            if isinstance(parent, ast.With):  # `with os.scandir(x) as listing: ... sorted(listing)`
                return any(isinstance(part, ast.Name) and part.id == "sorted" for part in ast.walk(parent))
            return False
        node = parent
    return False


def _is_set(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return _is_set(node.left) or _is_set(node.right)
    is_call = isinstance(node, ast.Call) and ast.unparse(node.func) in ("set", "frozenset")
    return is_call or isinstance(node, ast.Set | ast.SetComp)


def test_nothing_in_the_program_is_left_to_chance():
    assert [problem for name, tree in sources(ROOT) for problem in doubtful(name, tree)] == []


def test_the_exceptions_are_still_needed():
    names = {name for name, _ in sources(ROOT)}
    assert set(MAY_LIST) | MAY_IMPORT_RANDOM <= names
    for name in MAY_LIST:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert any(f"{listing}(" in text for listing in (*LISTINGS, "scandir")), name


@pytest.mark.parametrize(
    "code",
    [
        "np.random.shuffle(x)",
        "np.random.seed(3)",
        "np.random.default_rng()",
        "np.random.default_rng(None)",
        "np.random.default_rng(seed=None)",
        "np.random.default_rng(time.time_ns())",
        "np.random.default_rng(int(time.time()))",
        "np.random.default_rng([seed, os.getpid()])",
        "make = np.random.default_rng",
        "import random",
        "def f():\n    from random import choice",
        "from numpy.random import default_rng",
        "from tensorflow import random",
        "random.random()",
        "random.Random()",
        "tf.random.normal([3])",
        "tf.random.uniform([3], seed=1)",
        "tf.random.Generator.from_non_deterministic_state()",
        "tf.random.set_seed(0)",
        "keras.random.normal((3,))",
        "keras.utils.set_random_seed(None)",
        "keras.utils.set_random_seed(int(time.time()))",
        "import secrets",
        "x = os.urandom(4)",
        "x = uuid.uuid4()",
        "x = hash(name) % 10",
        "for path in folder.glob('*.npz'):\n    read(path)",
        "names = os.listdir(folder)",
        "names = [path.name for path in folder.iterdir()]",
        "with os.scandir(folder) as listing:\n    names = [entry.name for entry in listing]",
        "data.map(f, num_parallel_calls=2)",
        "data.interleave(f, num_parallel_calls=2, deterministic=False)",
        "data.shuffle(100)",
        "for name in {'a', 'b'}:\n    draw(name)",
        "for name in set(names):\n    draw(name)",
        "x = [f(name) for name in set(names) - {'a'}]",
        "x = list(set(names))",
        "x = ', '.join({name for name in names})",
    ],
)
def test_what_is_left_to_chance_is_found(code):
    assert list(doubtful("learners/a.py", ast.parse(code))) != []


@pytest.mark.parametrize(
    "code",
    [
        "generator = np.random.default_rng(seed)",
        "generator = np.random.default_rng([seed, 0xCA11])",
        "numbers = np.random.Generator(np.random.Philox(key=[seed, 1], counter=3)).random(5)",
        "def draw(generator: np.random.Generator): return generator.integers(3)",
        "tf.random.stateless_uniform([3], [seed, step])",
        "keras.random.normal((3,), seed=self.seeds)",
        "keras.utils.set_random_seed(config.seed)",
        "started = time.perf_counter()",
        "names = sorted(path.name for path in folder.glob('*.npz'))",
        "for path in sorted(folder.rglob('*')):\n    read(path)",
        "is_empty = not any(folder.iterdir())",
        "names = {path.name for path in folder.iterdir()}",
        "with os.scandir(folder) as listing:\n    entries = sorted(listing, key=lambda entry: entry.name)",
        "data.map(f, num_parallel_calls=2, deterministic=True)",
        "is_same = len(set(names)) == 1",
        "for name in sorted(set(names)):\n    draw(name)",
        "names = {name.lower() for name in set(names)}",
        "is_known = any(name in known for name in {'a', 'b'})",
    ],
)
def test_what_is_seeded_or_ordered_is_fine(code):
    assert list(doubtful("learners/a.py", ast.parse(code))) == []
