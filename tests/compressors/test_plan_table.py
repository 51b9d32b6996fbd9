import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressors.plan import Group, Plan, PlanRow
from compressors.plan_table import epochs_text, format_plan, print_plan

STAGE = tuple(f"layer1.{block}.conv{conv}/kernel" for block in range(3) for conv in (1, 2))
PLAN = Plan(
    name="mine.yaml",
    num_epochs=6,
    rows=(
        PlanRow(
            1,
            "pruner",
            "gradual",
            "AutomatedGradualPruner",
            (0, 2, 4),
            (Group(STAGE, 600, {0: 0.0, 2: 0.7, 4: 0.8}), Group(("fc/kernel",), 32, {0: 0.0, 2: 0.35, 4: 0.4})),
        ),
        PlanRow(2, "pruner", "free", "SensitivityPruner", (1,), (Group(("conv1/kernel",), 216, {1: None}),)),
        PlanRow(3, "regularizer", "r", "L1Regularizer", (0, 1, 2), (Group(("fc/bias",), 4, setting="strength 0.001"),)),
        PlanRow(
            4, "lr_scheduler", "lr", "StepLR", (0, 1, 2, 3), (), {0: 1.0, 1: 1.0, 2: 0.1, 3: 0.1, 4: 0.01, 5: 0.01}
        ),
        PlanRow(5, "extension", "thin", "FilterRemover", (5,)),
        PlanRow(
            6, "quantizer", "q", "Finished", (), (Group(("conv1", "fc"), 252, setting="weights 8 bits per channel"),)
        ),
    ),
    kernels={**dict.fromkeys(STAGE, 100), "fc/kernel": 32, "conv1/kernel": 216, "conv2/kernel": 152},
    untouched=("conv2/kernel",),
    warnings=("pruners > idle: no policy uses it",),
)


@pytest.mark.parametrize(
    ("epochs", "text"),
    [
        ((), ""),
        ((5,), "5"),
        ((5, 6), "5, 6"),
        ((0, 1, 2), "0-2"),
        (tuple(range(0, 38, 2)), "0, 2 .. 36"),
        ((1, 4, 9), "1, 4, 9"),
        ((*range(10), 20), "0-9, 20"),
        ((0, 5, 6, 7, 8), "0, 5-8"),
        ((0, 1, 2, 4, 6, 8), "0-2, 4, 6 .. 8"),
    ],
)
def test_epochs_in_short(epochs, text):
    assert epochs_text(epochs) == text


@given(st.sets(st.integers(0, 40)).map(sorted))
def test_epochs_in_short_name_the_same_epochs(epochs):
    found = []
    for part in epochs_text(epochs).split(", ") if epochs else []:
        first, _, last = part.replace("-", " .. ").partition(" .. ")
        step = int(first) - found[-1] if ".." in part else 1  # "4, 6 .. 10": from the number before
        found += range(int(first), int(last or first) + 1, step)
    assert found == epochs


def test_the_whole_table():
    assert [" ".join(line.split()) for line in format_plan(PLAN, 300).splitlines() if line.strip("- ")] == [
        "Plan of mine.yaml for 6 epochs",
        "Policies",
        "Policy Epochs Acts on Asks for",
        "1 pruner gradual 0, 2 .. 4 7 kernels 0.00%",
        "AutomatedGradualPruner to 40.00% .. 80.00%",
        "2 pruner free 1 1 kernel as weights decide",
        "SensitivityPruner",
        "3 regularizer r 0-2 1 parameter strength 0.001",
        "L1Regularizer",
        "4 lr_scheduler lr 0-3 the rate rate 1",
        "StepLR to 0.01",
        "5 extension thin 5 the network",
        "FilterRemover",
        "6 quantizer q after training 2 layers weights 8 bits per channel",
        "Finished",
        "By parameter and epoch",
        "Acts on Epoch: what is asked for",
        "1 6 kernels: layer1.0.conv1, layer1.0.conv2, layer1.1.conv1, layer1.1.conv2, layer1.2.conv1, layer1.2.conv2 "
        "0: 0.00% 2: 70.00% 4: 80.00%",
        "1 1 kernel: fc 0: 0.00% 2: 35.00% 4: 40.00%",
        "2 1 kernel: conv1 1: as weights decide",
        "3 1 parameter: fc/bias strength 0.001",
        "4 the learning rate 0, 1: 1 2, 3: 0.1 4, 5: 0.01",
        "6 2 layers: conv1, fc weights 8 bits per channel",
        "At the end the pruners ask for at least 49.28% of the 1,000 weights of 9 prunable kernels.",
        "No rule acts on 1 kernel: conv2.",
        "Warning: pruners > idle: no policy uses it",
    ]


def test_at_80_columns_only_long_lists_are_folded():
    lines = [" ".join(line.split()) for line in format_plan(PLAN, 80).splitlines()]
    assert "1 pruner gradual 0, 2 .. 4 7 kernels 0.00%" in lines
    assert "1 6 kernels: layer1.0.conv1, 0: 0.00% 2: 70.00% 4: 80.00%" in lines
    assert "layer1.0.conv2, layer1.1.conv1," in lines


def test_epochs_of_the_same_sparsity_are_one_step():
    course = {0: 0.25, 2: 0.5, 4: 0.5, 6: 0.5, 8: 0.75}
    row = PlanRow(1, "pruner", "p", "P", tuple(course), (Group(("fc/kernel",), 32, course),))
    text = " ".join(format_plan(PLAN._replace(rows=(row,))).split())
    assert "1 1 kernel: fc 0: 25.00% 2, 4 .. 6: 50.00% 8: 75.00%" in text


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_longer_than_the_width(width):
    assert max(map(len, format_plan(PLAN, width).splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_parameter_and_number_is_in_the_table(width):
    text = "".join(format_plan(PLAN, width).split())
    for name in STAGE:
        assert name.removesuffix("/kernel") in text
    for part in ("0:0.00%", "2:70.00%", "4:80.00%", "2:35.00%", "1:asweightsdecide", "strength0.001", "weights8bits"):
        assert part in text


def test_long_names_are_folded():
    row = PLAN.rows[0]._replace(
        instance="@" * 100,
        class_name="QuantAwareTrainRangeLinearQuantizer",
        groups=(Group(("~" * 200,), 1, setting="^" * 90),),
    )
    text = format_plan(PLAN._replace(rows=(row._replace(kind="quantizer"),)), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert [text.count(letter) for letter in "@~^"] == [100, 200, 180]


def test_a_stream_that_is_no_terminal_gets_plain_text():
    stream = io.StringIO()
    print_plan(PLAN, stream)
    assert stream.getvalue() == format_plan(PLAN)
    assert stream.getvalue().isascii()


def test_many_changes_of_the_rate_are_told_by_the_first_and_the_last():
    rates = {epoch: 0.9**epoch for epoch in range(60)}
    row = PlanRow(1, "lr_scheduler", "lr", "ExponentialLR", tuple(range(60)), (), rates)
    text = format_plan(PLAN._replace(rows=(row,)))
    assert "0: 1 " in text
    assert "59: 0.001997" in text
    assert "30:" not in text


def test_a_plan_without_policies_has_no_tables():
    plan = PLAN._replace(rows=())
    assert format_plan(plan).splitlines() == [
        "Plan of mine.yaml for 6 epochs",
        "",
        "No rule acts on 1 kernel: conv2.",
        "Warning: pruners > idle: no policy uses it",
    ]
