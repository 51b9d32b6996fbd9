"""docs/pruner_api.md: its examples run, in the order in which they stand there, and do what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest

import trimflow

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "pruner_api.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The names that the examples leave behind, and for each block those it leaves when it has run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("examples"))
        names, after = {}, []
        for number, block in enumerate(BLOCKS, start=1):
            exec(compile(block, f"docs/pruner_api.md, example {number}", "exec"), names)
            after.append(dict(names))
        yield after


def zeros(model):
    kernels = [variable.numpy() for variable in model.trainable_variables if variable.name == "kernel"]
    return [int(np.sum(kernel == 0)) for kernel in kernels], [kernel.size for kernel in kernels]


def test_every_example_prunes_as_it_says(examples):
    pruned = [state for block, state in zip(BLOCKS, examples, strict=True) if "import LevelPruner" in block]
    gone, sizes = zeros(pruned[0]["model"])
    assert gone == [int(0.8 * size) for size in sizes]


def test_the_last_example_goes_on_with_the_masks_of_the_first(examples):
    gone, sizes = zeros(examples[-1]["model"])
    assert gone == [int(0.8 * size) for size in sizes]
    assert examples[-1]["pruner"].get_pruned_weights().sparsity == pytest.approx(0.8, abs=0.005)


def test_the_lottery_ends_at_its_sparsity(examples):
    lottery = [state for block, state in zip(BLOCKS, examples, strict=True) if "import LotteryTicketPruner" in block]
    gone, sizes = zeros(lottery[0]["model"])
    assert gone == [int(0.8 * size) for size in sizes]


def test_the_search_reaches_its_ratio_without_a_collapse(examples):
    (state,) = [state for block, state in zip(BLOCKS, examples, strict=True) if "import SearchPruner" in block]
    gone, sizes = zeros(state["model"])
    assert sum(sizes) - sum(gone) <= 0.2 * sum(sizes)
    assert state["result"].accuracy_after > state["result"].accuracy_before - 0.15


def test_every_pruner_has_its_section():
    pruners = {name for name in trimflow.__all__ if name.endswith("Pruner")}
    assert pruners <= set(re.findall(r"^## (\w+)$", TEXT, re.M))
    assert all(name in TEXT for name in pruners)
