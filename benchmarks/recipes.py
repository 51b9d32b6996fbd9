"""Runs recipes/*.yaml as a user would, on digits32: accuracy, size and cost before and after.

    .venv/bin/python benchmarks/recipes.py                    # seed 0 of all recipes; then prints the table
    .venv/bin/python benchmarks/recipes.py agp filters --seeds 3
    .venv/bin/python benchmarks/recipes.py --table            # prints what is known
    .venv/bin/python benchmarks/recipes.py --write            # and writes it into the headers of the recipes

Each run is the command in the recipe's header, but for the dense network of its seed, which is trained once for all of
them. The row `none` is the same training without any compression. Rows are kept in benchmarks/results/recipes.jsonl and
not measured twice.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence

from ratios_of_times import ROOT

RECIPES = ROOT / "recipes"
RESULTS = ROOT / "benchmarks" / "results" / "recipes.jsonl"
RUNS = ROOT / "runs" / "benchmarks"
UNCOMPRESSED = """
pruners: {p: {class: SparsityLevelParameterPruner, levels: {"*": 0}}}
policies: [{pruner: {instance_name: p}, epochs: [0]}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="recipes, such as agp; default: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    names = options.names or ["none", *sorted(path.name.split(".")[1] for path in RECIPES.glob("resnet20.*.yaml"))]
    if not (options.table or options.write):
        for seed in range(options.seeds):
            for name in names:
                if (name, seed) not in {(row["recipe"], row["seed"]) for row in results()}:
                    measure(name, seed)
    if options.write:
        for name in names:
            write_result(name)
    print_table(names)


def results() -> list[dict]:
    """All rows measured so far."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def measure(name: str, seed: int) -> None:
    """Runs a recipe and appends its row."""
    run_dir = RUNS / "recipes" / f"{name}_seed{seed}"
    recipe = RECIPES / f"resnet20.{name}.yaml"
    if name == "none":
        recipe = RUNS / "none.yaml"
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(UNCOMPRESSED)
    command = [
        sys.executable, "main.py", "nets/resnet_at_cifar10_run.py", "--learner", "scheduled", "--compress", str(recipe),
        "--save_path", str(RUNS / f"dense_seed{seed}.keras"), "--seed", str(seed), "--run_dir", str(run_dir),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)
    report = json.loads((run_dir / "report.json").read_text())
    dense, compressed = report["dense"], report["compressed"]
    row = {
        "recipe": name,
        "seed": seed,
        "dense": dense["accuracy"],
        "accuracy": compressed["accuracy"],
        "sparsity": compressed["sparsity"],
        "parameters": compressed["parameters"] / dense["parameters"],
        "flops": compressed["flops"] / dense["flops"],
        "gzip_bytes": report["sizes"]["gzip_bytes"],
        "seconds": sum(stage["seconds"] for stage in report["stages"]),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a") as file:
        file.write(json.dumps(row) + "\n")


def print_table(names: Iterable[str]) -> None:
    """A Markdown table: means over the seeds, with the range of the accuracy."""
    print("| recipe | what it is | seeds | before | after | weights zero or gone | FLOPs left, dense | kB gzipped |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        if rows := rows_of(name):
            accuracy = [row["accuracy"] for row in rows]
            spread = f" ({min(accuracy):.3f} to {max(accuracy):.3f})" if len(accuracy) > 1 else ""
            cells = [
                name if name == "none" else f"`resnet20.{name}.yaml`",
                title(name),
                str(len(rows)),
                f"{mean(rows, 'dense'):.3f}",
                f"{mean(rows, 'accuracy'):.3f}{spread}",
                f"{mean(rows, 'sparsity'):.1%}",
                f"{mean(rows, 'flops'):.0%}",
                f"{mean(rows, 'gzip_bytes') / 1000:,.0f}",
            ]
            print(f"| {' | '.join(cells)} |")


def write_result(name: str) -> None:
    """Replaces the last lines of the recipe's header, from `# Result` on."""
    rows = rows_of(name)
    if not rows or name == "none":
        return
    path = RECIPES / f"resnet20.{name}.yaml"
    lines = path.read_text().splitlines()
    seeds = [row["seed"] for row in rows]
    uncompressed = [row for row in rows_of("none") if row["seed"] in seeds]
    accuracy = f"test accuracy {mean(rows, 'accuracy'):.3f}; {mean(rows, 'dense'):.3f} before"
    if "policies:" in lines:
        accuracy += f", {mean(uncompressed, 'accuracy'):.3f} after the same epochs without compression"
    cost = [f"{mean(rows, 'gzip_bytes') / 1000:,.0f} kB gzipped, {mean(uncompressed, 'gzip_bytes') / 1000:,.0f} dense"]
    if (fewer := 1 - mean(rows, "flops")) > 0.005:
        cost.insert(0, f"{fewer:.0%} fewer FLOPs, dense")
    if removed := mean(rows, "sparsity"):
        cost.insert(0, f"{removed:.0%} of the weights zero or gone")
    over = "seed 0" if seeds == [0] else f"mean of {len(seeds)} seeds"
    begin = next(at for at, line in enumerate(lines) if line.startswith("# Result"))
    end = next(at for at, line in enumerate(lines) if at > begin and not line.startswith("#"))
    result = [f"# Result ({over}): {accuracy}.", f"# {'; '.join(cost)}."]
    path.write_text("\n".join([*lines[:begin], *result, *lines[end:]]) + "\n")


def title(name: str) -> str:
    """What a recipe's first line says of it."""
    if name == "none":
        return "the same epochs without compression"
    return (RECIPES / f"resnet20.{name}.yaml").read_text().splitlines()[0].removeprefix("# ResNet-20, ")


def rows_of(name: str) -> list[dict]:
    """The rows of a recipe, one for each seed."""
    return [row for row in results() if row["recipe"] == name]


def mean(rows: Sequence[dict], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


if __name__ == "__main__":
    main()
