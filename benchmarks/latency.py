"""Latency of .keras models against the first of them: one image, one thread, measured in turn in one process.

.venv/bin/python benchmarks/latency.py DENSE.keras THINNED.keras [...]
"""

import argparse
import statistics
from pathlib import Path

from ratios_of_times import interleaved_seconds, ratio_line

IMAGES = 20  # in one call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from compressors.quantizers import QUANTIZERS  # noqa: F401  registers the layers of quantized models
    from learners.network_files import read_model

    def classifier(path: Path):
        model = read_model(path)
        images = tf.random.stateless_normal([IMAGES, 1, *model.input_shape[1:]], [0, 0])

        @tf.function
        def classify():
            return tf.map_fn(lambda image: model(image, training=False), images, parallel_iterations=1)

        return lambda: classify().numpy()

    seconds = interleaved_seconds({str(path): classifier(path) for path in options.models}, options.rounds, warm_up=3)
    first = seconds[str(options.models[0])]
    print(f"{options.models[0]}: {statistics.median(first) / IMAGES * 1e3:.2f} ms an image, one thread")
    for path in options.models[1:]:
        print(ratio_line(str(path), seconds[str(path)], first))


if __name__ == "__main__":
    main()
