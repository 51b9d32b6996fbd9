"""What training images of ILSVRC-12 cost on one core: our whole input pipeline against bare decoding and resizing.

    .venv/bin/python benchmarks/input_pipeline.py

512 JPEGs of 500x375 pixels and about 110 kB each, made of scikit-learn's photographs, in TFRecord files. Ours: records
found, read and checked, windows drawn, decoded, mirrored, resized, normalised, in batches. Bare: a compiled loop of
tf.io.decode_and_crop_jpeg and tf.image.resize over the same bytes, already in memory, with the same windows. Both on
one core. Processor seconds count all threads; on a machine that others use too they say more than the time.
"""

import io
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

from ratios_of_times import asked_rounds, ratio_line

NUM_IMAGES = 512
BATCH = 64
BATCHES = 12  # of a round
IMAGE_SIZE = 224
GOAL = 0.85
SETTLED_SECONDS = 0.3  # on a busy machine a process may have to wait for its turn


def main() -> None:
    rounds = asked_rounds(__doc__, default=15)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    import numpy as np
    import tensorflow as tf

    from datasets.ilsvrc12.dataset import load_ilsvrc12
    from datasets.ilsvrc12.windows import draw_numbers, random_windows
    from datasets.pipeline import shuffled_indices

    with tempfile.TemporaryDirectory() as directory:
        # Indices of files that are gone tomorrow need not stay in the user's cache.
        os.environ["XDG_CACHE_HOME"] = directory
        jpegs = make_jpegs(NUM_IMAGES + 1)
        write_records(Path(directory), jpegs)
        dataset = load_ilsvrc12(directory, image_size=IMAGE_SIZE, num_validation=1, quiet=True)
        iterator = iter(dataset.training_batches(batch_size=BATCH, seed=0))

        @tf.function
        def bare(encoded, windows):
            total = 0.0
            for place in tf.range(tf.shape(windows)[0]):
                image = tf.io.decode_and_crop_jpeg(encoded[place], windows[place], channels=3)
                total += tf.image.resize(image, [IMAGE_SIZE, IMAGE_SIZE])[0, 0, 0]
            return total

        def ours(iterator) -> float:
            for _ in range(BATCHES):
                next(iterator)
            # It goes on until as many batches lie ready as before.
            return wait_until_idle()

        def bare_time(encoded, windows) -> float:
            bare(encoded, windows)
            return time.perf_counter()

        seconds = {"ours": [], "bare": []}
        processor = {"ours": [], "bare": []}
        count = BATCHES * BATCH
        for index in range(1 + rounds):
            first = index * count
            numbers = shuffled_indices(tf.range(first, first + count, dtype=tf.int64), NUM_IMAGES, 0).numpy()
            sizes = np.tile([375, 500], (count, 1))
            windows = tf.constant(random_windows(sizes, draw_numbers(0, first, count)))
            encoded = tf.constant([jpegs[number] for number in numbers])
            wait_until_idle()
            for name, run, arguments in (("ours", ours, [iterator]), ("bare", bare_time, [encoded, windows])):
                started, started_processor = time.perf_counter(), processor_seconds()
                ended = run(*arguments)
                if index > 0:
                    seconds[name].append(ended - started)
                    processor[name].append(processor_seconds() - started_processor)

    kilobytes = statistics.mean(map(len, jpegs)) / 1e3
    print(f"{NUM_IMAGES} JPEGs of 500x375, {kilobytes:.0f} kB each; {rounds} rounds of {BATCHES} batches of {BATCH}")
    for name, title in (("ours", "input pipeline"), ("bare", "bare loop")):
        rates = [count / statistics.median(times[name]) for times in (processor, seconds)]
        print(f"{title:<44} {rates[0]:.0f} images a processor second, {rates[1]:.0f} a second on one core")
    print(f"{'ratio of rates, ours / bare':<44} median (min to max)")
    goal = f"  goal at least {GOAL}"
    print(ratio_line("images per processor second", processor["bare"], processor["ours"]) + goal)
    print(ratio_line("images per second on one core", seconds["bare"], seconds["ours"]) + goal)


def make_jpegs(count: int) -> list[bytes]:
    """JPEGs of 500x375 pixels: noisy enlarged parts of photographs."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    jpegs = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        zoom = generator.uniform(1, 1.6)
        width, height = int(photograph.width / zoom), int(photograph.height / zoom)
        left = generator.integers(0, photograph.width - width + 1)
        top = generator.integers(0, photograph.height - height + 1)
        part = photograph.resize((500, 375), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        noisy = np.asarray(part, np.float32) + 8 * generator.standard_normal((375, 500, 3), np.float32)
        content = io.BytesIO()
        Image.fromarray(np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)).save(content, "JPEG", quality=95)
        jpegs.append(content.getvalue())
    return jpegs


def write_records(directory: Path, jpegs: list[bytes], num_shards: int = 8) -> None:
    """All of them as training records, and the first one as the only record of test."""
    import tensorflow as tf

    def write(name: str, of_file: list[bytes]) -> None:
        with tf.io.TFRecordWriter(str(directory / name)) as writer:
            for number, jpeg in enumerate(of_file):
                feature = {
                    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg])),
                    "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 1000 + 1])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())

    size = -(-len(jpegs) // num_shards)
    for shard in range(num_shards):
        write(f"train-{shard:05}-of-{num_shards:05}", jpegs[shard * size : (shard + 1) * size])
    write("validation-00000-of-00001", jpegs[:1])


def processor_seconds() -> float:
    """Of this process, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def wait_until_idle() -> float:
    """Waits until this process has done nothing for a while; the time at which it stopped."""
    last_busy, used = time.perf_counter(), processor_seconds()
    while time.perf_counter() - last_busy < SETTLED_SECONDS:
        time.sleep(SETTLED_SECONDS / 10)
        # Asking costs a little itself.
        if processor_seconds() - used > SETTLED_SECONDS / 50:
            last_busy, used = time.perf_counter(), processor_seconds()
    return last_busy


if __name__ == "__main__":
    main()
