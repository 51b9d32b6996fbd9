"""Small runs made by hand, for pages and pictures."""

import numpy as np

from export.run_record import KernelPair, RunRecord

TITLE = "digits32 (embedded, not CIFAR-10)"
HOSTILE = """<script>alert("x")</script> a|b*c_d_ `e` 'f' & $g$ [h](i) \\ #1"""
SHAPES = {"conv1/kernel": (3, 3, 3, 8), "block.conv/kernel": (3, 3, 8, 16), "fc/kernel": (16, 10)}


def milliseconds(median, low=0.95, high=1.2):
    """A time whose rounds go from `low` to `high` times the median."""
    return {"median": median, "low": low * median, "high": high * median}


def export_row(name, title, size, accuracy=0.9115, one=None, both=None, **others):
    """A file that ran; `one` and `both` are milliseconds."""
    return {
        "format": name,
        "title": title,
        "file": f"exports/model.{name}",
        "bytes": size,
        "gzip_bytes": int(0.95 * size),
        "ideal_bytes": int(0.8 * size),
        "accuracy": accuracy,
        "agreement": 0.999,
        "largest_difference": 2e-7,
        "one_thread": one and milliseconds(one),
        "all_threads": both and milliseconds(both),
        "peak_memory_bytes": 5_200_000 if one else None,
        **others,
    }


def exports():
    """Files of every kind as a ResNet-20 pruned to 90% has them, one refused."""
    int8 = {"agreement": 0.984, "largest_difference": 0.31}
    return {
        "model_digest": "0" * 64,
        "images": 2000,
        "machine": "2 cores, a processor of some kind, Linux",
        "threads": 2,
        "seconds": 41.0,
        "dense": export_row("dense", "dense network, LiteRT float32", 1_103_000, 0.903, 2.41, 1.62),
        "formats": [
            export_row("keras", "Keras", 1_356_248, both=9.8),
            export_row("saved-model", "SavedModel", 1_689_000, both=4.1),
            export_row("litert", "LiteRT, float32", 1_103_000, one=2.39, both=1.60),
            export_row("litert-sparse", "LiteRT, sparse float32", 178_000, one=2.44, both=1.63),
            export_row("litert-int8", "LiteRT, int8 weights", 305_000, 0.9105, 1.05, 0.81, **int8),
            {"format": "litert-full-int8", "title": "LiteRT, all int8", "refused": "its own runtime refuses it: no"},
            export_row("litert-float16", "LiteRT, float16", 556_000, one=2.42, both=1.66),
            export_row("onnx", "ONNX", 1_110_000, one=2.8, both=1.9),
            export_row("trim", "TrimFlow, float32", 118_400),
            export_row("trim-float16", "TrimFlow, float16", 66_300, 0.911),
            export_row("trim-256", "TrimFlow, 256 values", 41_200, 0.910),
            export_row("trim-16", "TrimFlow, 16 values", 27_900, 0.8720),
        ],
        "layers": [
            {
                "path": path,
                "parameters": int(np.prod(shape)),
                "nonzero": int(np.prod(shape)) // 4,
                "dense_bytes": 4 * int(np.prod(shape)),
                "bitmap_bytes": int(np.prod(shape)) * 9 // 8,
                "ideal_bytes": {
                    kind: int(np.prod(shape)) * bits // 32
                    for kind, bits in {
                        "float32": 34,
                        "float16": 18,
                        "int8": 10,
                        "codebook-256": 9,
                        "codebook-16": 5,
                    }.items()
                },
            }
            for path, shape in SHAPES.items()
        ],
    }


def report(**changes):
    """A report of a run that searched, trained and compressed, without exports; `changes` replace or add keys."""
    layers = [
        {
            "path": path,
            "shape": list(shape),
            "parameters": int(np.prod(shape)),
            "target_ratio": ratio,
            "sparsity": ratio,
            "flops_dense": 200 * int(np.prod(shape)),
            "flops_sparse": int(200 * (1 - ratio) * np.prod(shape)),
        }
        for (path, shape), ratio in zip(SHAPES.items(), (0.0, 0.75, 0.5), strict=True)
    ]
    return {
        "model": "resnet_20",
        "dataset": "digits32",
        "data_title": TITLE,
        "learner": "weight-sparse",
        "seed": 0,
        "versions": {"trimflow": "0.1.0", "tensorflow": "2.21.0"},
        "dense": {"accuracy": 0.903, "acc_top1": 0.903, "acc_top5": 0.985},
        "compressed": {"accuracy": 0.9115, "acc_top1": 0.9115, "acc_top5": 0.9875, "sparsity": 0.9},
        "layers": layers,
        "search": {
            "protocol": "optimal",
            "reward_metric": "acc_top1",
            "rollouts": 12,
            "seconds": 198.4,
            "seconds_per_rollout": 0.646,
            "best_reward": 0.876,
            "dense_step_seconds": 0.116,
            "dense_step_equivalents": 1711.5,
        },
        "training": {"iterations": 624, "seconds": 80.3, "images_per_second": 994.5},
        "sizes": {
            "dense_bytes": 1_096_168,
            "sparse_bytes": 154_802,
            "gzip_bytes": 154_421,
            "weights": 274_042,
            "nonzero_weights": 30_235,
            "kernel_weights": 270_896,
            "nonzero_kernel_weights": 27_089,
        },
        "stages": [{"name": "dense", "seconds": 73.8}, {"name": "search", "seconds": 129.3}],
        **changes,
    }


def rollouts(count=12):
    """Two given protocols, then the agent; nearly all remove the same share."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(count):
        ratio = float(0.7 + 0.02 * generator.random())
        rows.append(
            {
                "index": index,
                "source": ("uniform", "dp")[index] if index < 2 else "agent",
                "ratios": {"conv1/kernel": 0.0, "block.conv/kernel": ratio, "fc/kernel": 0.75},
                "reward": 0.8 + 0.005 * index,
                "accuracy": 0.8 + 0.005 * index,
                "accuracy_after": None,
            }
        )
    return rows


def history(count=20, sparsity=0.75):
    """Rows of a training that prunes."""
    return [
        {
            "step": 10 * (i + 1),
            "loss": 2.0 / (i + 1),
            "accuracy": 1 - 0.9 / (i + 1),
            "sparsity": sparsity * min(i / 10, 1),
            "learning_rate": 0.1,
            **({"validation_accuracy": 0.7 + 0.005 * i} if i % 5 == 4 else {}),
        }
        for i in range(count)
    ]


def kernels():
    """The first layer dense, the others pruned by magnitude."""
    generator = np.random.default_rng(0)
    pairs = {}
    for (path, shape), ratio in zip(SHAPES.items(), (0.0, 0.75, 0.5), strict=True):
        before = generator.normal(size=shape).astype(np.float32)
        limit = np.quantile(np.abs(before), ratio)
        pairs[path] = KernelPair(before, np.where(np.abs(before) < limit, 0, before))
    return pairs


def rounds():
    """Three rounds of the lottery ticket."""
    return [
        {"round": r, "sparsity": 1 - 0.6**r, "accuracy": 0.9 - 0.01 * r, "validation_accuracy": 0.91, "seconds": 9.0}
        for r in range(4)
    ]


def full_record():
    """A run that has everything."""
    return RunRecord(
        report(exports=exports(), rounds=rounds(), notes=["A note."]),
        rollouts=rollouts(),
        finalists=[{"index": 9, "reward": 0.87, "merit": 0.6}, {"index": 1, "reward": 0.86, "merit": 0.5}],
        histories={"dense": history(sparsity=0.0), "training": history()},
        kernels=kernels(),
    )


def bare_record():
    """A full-precision run of other data, without exports, pictures or notes."""
    plain = report(compressed=None, layers=[], search=None, training=None, dataset="cifar10", data_title="CIFAR-10")
    return RunRecord(plain)


def hostile_record():
    """A run whose every name was chosen to break a page."""
    files = exports()
    for row in (files["dense"], *files["formats"]):
        row["title"] = f"{row['title']} {HOSTILE}"
        if "file" in row:
            row["file"] = HOSTILE
    files["formats"][5]["refused"] = HOSTILE
    files["machine"] = HOSTILE
    names = {path: f"{HOSTILE} {i}/kernel" for i, path in enumerate(SHAPES)}
    files["layers"] = [row | {"path": names[row["path"]]} for row in files["layers"]]
    changed = report(
        model=HOSTILE,
        data_title=HOSTILE,
        learner=HOSTILE,
        versions={HOSTILE: HOSTILE},
        exports=files,
        notes=[HOSTILE, "# no heading", "1. no list"],
        distillation={"teacher": HOSTILE, "loss_weight": 4.0, "temperature": 4.0},
        stages=[{"name": HOSTILE, "seconds": 1.0}],
        metric=HOSTILE,
    )
    changed["layers"] = [row | {"path": names[row["path"]]} for row in changed["layers"]]
    changed["search"] = changed["search"] | {"protocol": HOSTILE}
    tried = [
        row
        | {"source": HOSTILE if i == 0 else row["source"], "ratios": {names[p]: r for p, r in row["ratios"].items()}}
        for i, row in enumerate(rollouts())
    ]
    return RunRecord(
        changed,
        rollouts=tried,
        histories={"training": history()},
        kernels={names[path]: pair for path, pair in kernels().items()},
    )
