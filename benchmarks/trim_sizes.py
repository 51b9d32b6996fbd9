"""Bytes and test accuracy of a pruned ResNet of digits32 in each kind of trim file, beside the entropy bound.

.venv/bin/python benchmarks/trim_sizes.py runs/resnet_20_at_digits32/weight-sparse/model.keras [...]

Every network given has a table of its own: whole files, and the kernels in them against `export.trim.ideal_bytes`.
"""

import argparse
import tempfile
import time
from pathlib import Path

import ratios_of_times  # noqa: F401  the repository is on the path from here on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    options = parser.parse_args()

    import numpy as np

    import compressors.quantizers  # noqa: F401  Keras learns of the layers of quantized models
    from export.sizes import model_sizes
    from export.trim import VALUES, ideal_bytes, load_trim, save_trim, trim_layer_bytes
    from learners.network_files import read_model
    from nets.config import NetConfig
    from nets.resnet_at_cifar10 import ModelHelper

    batches = [(images.numpy(), labels.numpy()) for images, labels in ModelHelper(NetConfig()).evaluation_batches()]
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))

    def classes(model):
        return model.predict(images, batch_size=500, verbose=0).argmax(1)

    for path in options.models:
        model = read_model(path)
        before, dense = classes(model), model_sizes(model)["dense_bytes"]
        print(f"\n{path}: {dense:,} bytes dense, accuracy {np.mean(before == labels):.2%} of {len(labels)} images\n")
        print("| values | file | dense / file | kernels in it | bound | accuracy | same class | save | load |")
        print("|---|---|---|---|---|---|---|---|---|")
        for values in VALUES:
            with tempfile.TemporaryDirectory() as directory:
                file = Path(directory) / "model.trim.npz"
                started = time.perf_counter()
                save_trim(model, file, values)
                saved = time.perf_counter()
                loaded = load_trim(file)
                done = time.perf_counter()
                size, layers = file.stat().st_size, trim_layer_bytes(file)
            bound = sum(ideal_bytes(v.numpy(), values) for v in model.variables if v.path in layers)
            after = classes(loaded)
            print(
                f"| {values} | {size:,} | {dense / size:.1f} | {sum(layers.values()):,} | {bound:,} "
                f"| {np.mean(after == labels):.2%} | {np.mean(after == before):.2%} "
                f"| {saved - started:.1f} s | {done - saved:.1f} s |"
            )


if __name__ == "__main__":
    main()
