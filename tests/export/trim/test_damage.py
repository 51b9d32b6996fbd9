"""Whatever happens to a file, it is loaded as it was or refused in one sentence, in little time and memory."""

import json
import lzma
import math
import re
import struct
import tracemalloc
import warnings
import zipfile

import keras
import numpy as np
import pytest

from export.trim import load_trim, save_trim, trim_layer_bytes
from export.trim.container import pack_container
from tests.export.trim import networks
from utils.errors import InputError

HEADER = struct.Struct("<4sBBHQII")
FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A small file with codebooks, shared chunks and constants."""
    inputs = keras.Input((6,), name="x")
    x = keras.layers.BatchNormalization(name="n")(keras.layers.Dense(5, name="d")(inputs))
    model = networks.with_zeros(keras.Model(inputs, keras.layers.Dense(30, use_bias=False, name="e")(x), name="m"), 0.3)
    path = tmp_path_factory.mktemp("sound") / "model.trim.npz"
    save_trim(model, path, "codebook-16")
    return path


@pytest.fixture
def broken(tmp_path):
    """A path for files that are not sound."""
    return tmp_path / "broken.trim.npz"


def parts(path):
    """Header fields, table and what follows it."""
    with zipfile.ZipFile(path) as archive:
        content = archive.read("trim.npy")[128:]
    header = HEADER.unpack_from(content)
    packed = content[HEADER.size : HEADER.size + header[-1]]
    table = json.loads(lzma.decompress(packed, lzma.FORMAT_RAW, filters=FILTERS))
    return list(header), table, content[HEADER.size + header[-1] :]


def forged(path, header, table, data):
    """Writes a file whose outer form and checksum are right, whatever it holds."""
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    packed = lzma.compress(text, format=lzma.FORMAT_RAW, filters=FILTERS)
    header = [*header[:-2], len(text), len(packed)]
    path.write_bytes(pack_container(HEADER.pack(*header) + packed + data))
    return path


def is_refused(path):
    """Whether loading says so; else a network came of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model, message = load_trim(path, max_bytes=1 << 20), ""
        except InputError as error:
            model, message = None, str(error)
    assert isinstance(model, keras.Model) or (path.name in message and len(message) < 1000)
    return model is None


def peak_of(load):
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as refusal:
            load()
        return str(refusal.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_every_single_byte_that_is_changed_is_noticed(path, broken):
    sound = path.read_bytes()
    for place, byte in enumerate(sound):
        for other in (byte ^ 1, (byte + 101) % 256):
            broken.write_bytes(sound[:place] + bytes([other]) + sound[place + 1 :])
            assert is_refused(broken), (place, other)


def test_every_length_but_the_whole_is_noticed(path, broken):
    sound = path.read_bytes()
    for length in range(len(sound)):
        broken.write_bytes(sound[:length])
        assert is_refused(broken), length
    broken.write_bytes(sound + b"\0")
    assert is_refused(broken)


def test_with_a_right_checksum_any_changed_byte_gives_a_network_or_a_refusal(path, broken):
    with zipfile.ZipFile(path) as archive:
        content = archive.read("trim.npy")[128:]
    generator, refused = np.random.default_rng(0), 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= int(generator.integers(1, 256))
        broken.write_bytes(pack_container(bytes(changed)))
        refused += is_refused(broken)
    assert 0.5 * len(content) < refused < len(content)  # a changed weight is a network still


def test_with_a_right_checksum_many_changed_bytes_and_other_lengths_do_no_harm(path, broken):
    with zipfile.ZipFile(path) as archive:
        content = archive.read("trim.npy")[128:]
    generator = np.random.default_rng(1)
    _, _, data = parts(path)
    for _ in range(150):
        changed = bytearray(content)
        first = len(content) - len(data) if generator.random() < 0.5 else 0  # the values alone, or anything
        for place in generator.integers(first, len(content), int(generator.integers(1, 20))):
            changed[place] = int(generator.integers(256))
        last = int(generator.integers(len(content))) if generator.random() < 0.3 else len(content)
        broken.write_bytes(pack_container(bytes(changed[:last])))
        is_refused(broken)


STRANGE = [
    -1,
    0,
    1,
    2,
    7,
    2**31,
    2**47,
    2**70,
    -2.0,
    0.5,
    1e300,
    None,
    True,
    "",
    "float64",
    "int8",
    "odd",
    [],
    [1.0],
    {},
]


def test_a_forged_table_gives_a_network_or_a_refusal(path, broken):
    header, table, data = parts(path)

    def leaves(value, where=()):
        yield where
        if isinstance(value, list):
            for number, part in enumerate(value):
                yield from leaves(part, (*where, number))

    places = [(key, *where) for key in table if key != "model" for where in leaves(table[key])]
    assert len(places) > 50
    generator = np.random.default_rng(2)
    for place in places:
        for number in generator.choice(len(STRANGE), 6, replace=False):
            changed = json.loads(json.dumps(table))
            within = changed
            for step in place[:-1]:
                within = within[step]
            within[place[-1]] = STRANGE[number]
            is_refused(forged(broken, header, changed, data))


@pytest.mark.parametrize("shape", [[0, 2**47], [2**40, 0, 2**40], [0] * 40, [2**47, 2**47, 2**47]])
def test_shapes_that_no_array_can_have_are_refused(shape, path, broken):
    header, table, data = parts(path)
    for number in range(len(table["tensors"])):
        tensors = json.loads(json.dumps(table["tensors"]))
        dtype, before, _ = tensors[number]
        tensors[number][1] = shape
        header_of_it = list(header)
        header_of_it[4] = (header[4] - 4 * math.prod(before) + 4 * math.prod(shape)) % 2**64
        forged(broken, header_of_it, {**table, "tensors": tensors}, data)
        message, peak = peak_of(lambda: load_trim(broken, max_bytes=1 << 63))
        assert peak < 5e6, message


def test_a_forged_configuration_gives_a_network_or_a_refusal(path, broken):
    header, table, data = parts(path)
    text = json.dumps(table["model"])
    generator = np.random.default_rng(3)
    numbers = [match.span() for match in re.finditer(r"(?<=[ \[])(-?[0-9][0-9.e-]*|null|true|false)(?=[,\]}])", text)]
    assert len(numbers) > 60
    for first, last in numbers:
        other = json.dumps(STRANGE[generator.integers(len(STRANGE))])
        is_refused(forged(broken, header, {**table, "model": json.loads(text[:first] + other + text[last:])}, data))


def test_a_table_that_is_no_table_is_refused(path, broken):
    header, table, data = parts(path)
    for text in (b"", b"[]", b"null", b"{", b'{"tensors":3}', b"[" * 100_000, b"\xff\xfe", b"{}"):
        assert is_refused(forged(broken, header, text, data)), text[:20]
    for key in table:
        assert is_refused(forged(broken, header, {k: v for k, v in table.items() if k != key}, data)), key


@pytest.mark.parametrize(
    "model",
    [
        None,
        {},
        "Dense",
        {"module": "os", "class_name": "system", "config": {}, "registered_name": "system"},
        {"module": "builtins", "class_name": "eval", "config": {"source": "1"}, "registered_name": "eval"},
        {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}, "registered_name": None},
        {"module": "keras.layers", "class_name": "Lambda", "config": {"function": "print"}, "registered_name": None},
    ],
)
def test_what_is_no_network_is_refused(model, path, broken):
    header, table, data = parts(path)
    assert is_refused(forged(broken, header, {**table, "model": model}, data))


def test_python_code_in_a_file_is_not_run(path, broken):
    header, table, data = parts(path)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    forged(broken, header, {**table, "model": config}, data)
    with pytest.raises(InputError, match="Lambda"):
        load_trim(broken)


def test_a_network_larger_than_allowed_is_refused_before_it_is_made(path, broken):
    header, table, data = parts(path)
    with pytest.raises(InputError, match=r"may take 500 bytes \(max_bytes\). Received: 820"):
        load_trim(path, max_bytes=500)
    huge = [header[0], 1, header[2], 0, 2**62, 0, 0]
    forged(broken, huge, table, data)
    message, peak = peak_of(lambda: load_trim(broken))
    assert "max_bytes" in message
    assert peak < 5e6


def test_sizes_that_a_short_file_cannot_hold_are_refused_before_anything_is_made(path, broken):
    header, table, data = parts(path)
    weight_bytes = header[4]
    tensors = json.loads(json.dumps(table["tensors"]))
    (kernel, *_) = [tensor for tensor in tensors if len(tensor[1]) == 2]
    before = 4 * kernel[1][0] * kernel[1][1]
    kernel[1] = [2**15, 2**13]
    header[4] = weight_bytes - before + 2**30
    forged(broken, header, {**table, "tensors": tensors}, data)
    message, peak = peak_of(lambda: load_trim(broken))
    assert "too short for the network" in message
    assert peak < 5e6


def test_a_configuration_of_a_larger_network_than_the_file_says_is_refused_before_it_is_built(path, broken):
    header, table, data = parts(path)
    text = json.dumps(table["model"]).replace('"units": 30', '"units": 1000000000')
    assert "1000000000" in text
    forged(broken, header, {**table, "model": json.loads(text)}, data)
    message, peak = peak_of(lambda: load_trim(broken))
    assert "take more than the 820 bytes" in message
    assert peak < 2e7


def test_a_table_that_unpacks_to_more_than_it_says_is_refused(path, broken):
    header, table, data = parts(path)
    text = json.dumps(table).encode() + b" " * (1 << 27)  # about 20 kB packed
    packed = lzma.compress(text, format=lzma.FORMAT_RAW, filters=FILTERS)
    for said in (1000, len(text)):
        content = HEADER.pack(*header[:-2], said, len(packed)) + packed + data
        broken.write_bytes(pack_container(content))
        message, peak = peak_of(lambda: load_trim(broken))
        assert "its table is" in message
        assert peak < 5e6


def test_a_version_of_the_future_is_named(path, broken):
    header, table, data = parts(path)
    header[1] = 2
    with pytest.raises(InputError, match="version 2, of a later TrimFlow. This one reads up to version 1"):
        load_trim(forged(broken, header, table, data))


def test_other_archives_are_no_trim_files(broken):
    np.savez(broken, trim=np.zeros(100, np.uint8))
    assert is_refused(broken)
    with zipfile.ZipFile(broken, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("trim.npy", b"\0" * (1 << 24))  # 16 kB that unpack to 16 MB
    message, peak = peak_of(lambda: load_trim(broken))
    assert "damaged, or no trim file" in message
    assert peak < 2e6
    broken.write_bytes(pack_container(b"something else"))
    assert is_refused(broken)


def test_a_file_larger_than_what_it_may_hold_is_not_read(broken):
    with open(broken, "wb") as file:
        file.truncate(1 << 33)  # a hole, no bytes of the disk
    message, peak = peak_of(lambda: load_trim(broken, max_bytes=1 << 20))
    assert "larger than that" in message
    assert peak < 1e6


def test_bytes_of_layers_are_refused_for_the_same_files(path, broken):
    header, table, data = parts(path)
    broken.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged"):
        trim_layer_bytes(broken)
    with pytest.raises(InputError, match="broken.trim.npz cannot be read"):
        trim_layer_bytes(forged(broken, header, {**table, "model": {}}, data))
