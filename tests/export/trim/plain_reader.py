"""A second reader of trim files, from docs/trim_format.md alone: no class of the program, no NumPy, no range coder."""

import json
import lzma
import math
import struct
import zipfile
from itertools import accumulate
from pathlib import Path

FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}]
LEVEL_FORMATS = {2: "h", 3: "b"}
CODED = {"float64": 2, "float32": 2, "float16": 1, "bfloat16": 2, "bool": 1}
SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "bool": 1}
MASK = (1 << 64) - 1


class Decoder:
    """The range decoder: 32-bit words, a 64-bit state, probabilities of 24 bits."""

    def __init__(self, words):
        self.words, self.lower, self.range = iter(words), 0, MASK
        self.point = next(self.words, 0) << 32 | next(self.words, 0)

    def decode(self, weights):
        """A symbol, of these (not normalised) frequencies."""
        scale = self.range >> 24
        quantile = ((self.point - self.lower) & MASK) // scale
        factor = (2**24 - len(weights)) / sum(weights)
        lefts = [int(c * factor) + i for i, c in enumerate(accumulate(weights[:-1], initial=0.0))] + [2**24]
        symbol = next(i for i, right in enumerate(lefts[1:]) if quantile < right)
        self.lower = (self.lower + scale * lefts[symbol]) & MASK
        self.range = scale * (lefts[symbol + 1] - lefts[symbol])
        if self.range < 1 << 32:
            self.range <<= 32
            self.lower = (self.lower << 32) & MASK
            self.point = (self.point << 32 | next(self.words, 0)) & MASK
        return symbol


def read_places(decoder, rows, columns):
    counts, nonzero, seen, places, row = [0] * columns, 1, 2, [], 0
    while row < rows:
        block = min(rows - row, max(1, row // 64))
        whole = (nonzero << 16) // seen
        p = [min(max(((c << 16) + 16 * whole) // (row + 16), 16), 65536 - 16) / 65536 for c in counts]
        found = [[decoder.decode([1 - p[c], p[c]]) for c in range(columns)] for _ in range(block)]
        counts = [c + sum(line[i] for line in found) for i, c in enumerate(counts)]
        nonzero += sum(map(sum, found))
        seen += block * columns
        places += [bit for line in found for bit in line]
        row += block
    return places


class Frequencies:
    def __init__(self, size):
        self.counts, self.seen = [1] * size, 0

    def read(self, decoder, count):
        symbols = []
        while len(self.counts) > 1 and len(symbols) < count:
            block = min(count - len(symbols), max(32, self.seen // 32))
            found = [decoder.decode([float(c) for c in self.counts]) for _ in range(block)]
            for symbol in found:
                self.counts[symbol] += 8
            self.seen += block
            symbols += found
        return symbols or [0] * count


def read(path: Path) -> list[list[float]]:
    """The numbers of each variable in the order of its flat index."""
    with zipfile.ZipFile(path) as archive:
        content = archive.read("trim.npy")[128:]
    magic, version, kind, _, _, _, packed = struct.unpack_from("<4sBBHQII", content)
    assert (magic, version) == (b"TRIM", 1)
    table = json.loads(lzma.decompress(content[24 : 24 + packed], lzma.FORMAT_RAW, filters=FILTERS))
    position, books, models, variables = 24 + packed, [], {}, {}
    for size in table["codebooks"]:
        form = f"<{size}{LEVEL_FORMATS[kind]}"
        books.append(struct.unpack_from(form, content, position))
        position += struct.calcsize(form)
    tensors, shared = table["tensors"], table["shared"]
    members = [[i for i, t in enumerate(tensors) if t[2] == chunk] for chunk in range(shared)]
    members += [[i] for i, t in enumerate(tensors) if t[2] == -1]
    for (stored, axis, words, raw), numbers in zip(table["chunks"], members, strict=True):
        is_book = isinstance(stored, int)
        if is_book:
            (scale,) = struct.unpack_from("<f", content, position)
            position += 4
        decoder = Decoder(struct.unpack_from(f"<{words}I", content, position))
        rest = content[position + 4 * words : position + 4 * words + raw]
        position += 4 * words + raw
        shape = tensors[numbers[0]][1] if axis else [sum(math.prod(tensors[i][1]) for i in numbers)]
        size, columns = math.prod(shape), shape[axis] if axis else 1
        places = read_places(decoder, size // columns if columns else 0, columns)
        count = sum(places)

        def frequencies(place, symbols, stored=stored):
            model = models.setdefault((stored, place), Frequencies(symbols))
            if model.seen:
                model.counts, model.seen = [(c + 1) // 2 for c in model.counts], model.seen // 2
            return model

        if is_book:
            values = [books[stored][i] * scale for i in frequencies(0, len(books[stored])).read(decoder, count)]
        else:
            planes = [bytes(frequencies(i, 256).read(decoder, count)) for i in range(CODED[stored])]
            planes += [rest[i * count : (i + 1) * count] for i in range(SIZES[stored] - CODED[stored])]
            letter = {"float64": "d", "float32": "f", "float16": "e"}[stored]
            values = [struct.unpack(f">{letter}", bytes(one))[0] for one in zip(*planes, strict=True)]
        source = iter(values)
        flat = [next(source) if bit else 0.0 for bit in places]
        if axis == -2:  # filter after filter
            outputs = shape[-1]
            flat = [flat[(i % outputs) * (size // outputs) + i // outputs] for i in range(size)]
        for i in numbers:
            length = math.prod(tensors[i][1])
            variables[i], flat = flat[:length], flat[length:]
    assert position == len(content)
    constants = {i: t[2] * math.prod(t[1]) for i, t in enumerate(tensors) if isinstance(t[2], list)}
    return [(variables | constants)[i] for i in range(len(tensors))]
