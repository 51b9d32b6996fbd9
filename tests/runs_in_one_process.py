"""A program of the tests: several runs of TrimFlow one after the other, and files made of a network.

    python runs_in_one_process.py '{"runs": [[word, ...], ...], "exports": [network, folder]}'

The words are as `main.py` gets them. TensorFlow's start is paid once.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import main


def run_all(commands: list[list[str]]) -> None:
    for words in commands:
        try:
            main.run(["main.py", *words])
        except SystemExit as stop:
            if stop.code:
                raise


def write_exports(network: str, folder: str) -> None:
    """The network in every format of which a file is made."""
    import keras
    import numpy as np

    from compressors.quantizers.folding import fold_batch_norm
    from export.formats import FORMATS, Source

    keras.utils.set_random_seed(0)  # of dropout, which is drawn anew as a file is read
    model = keras.models.load_model(network)
    shape = model.input_shape[1:]
    calibration = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
    source = Source(model, shape, calibration, fold_batch_norm)
    for form in FORMATS.values():
        form.write(source, Path(folder) / form.file)


if __name__ == "__main__":
    work = json.loads(sys.argv[1])
    run_all(work["runs"])
    write_exports(*work["exports"])
