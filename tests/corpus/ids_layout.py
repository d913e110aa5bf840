"""A toy layout, as another package would add it: `.ids`, one document of decimal ids per line."""

import numpy as np
from radscore.corpus import Chunk, Format, Known, Locations, Reader
from radscore.documents import Documents


class Ids(Format):
    name = "ids"
    title = "ids in decimal"
    files = "`.ids`"
    content = "ids with spaces between them"
    documents = "one per line"

    suffixes = (".ids",)

    def has_fields(self, source):
        return False

    def known(self, source, options):
        lines = source.path.read_bytes().splitlines()
        return Known(sum(len(line.split()) for line in lines), len(lines))

    def boundaries(self, source, eod):
        return "the lines"

    def open(self, source, options, problems):
        return IdsReader(source, options.batch_tokens, problems)


class IdsReader(Reader):
    fails_early = True

    def __init__(self, source, batch_tokens, problems):
        self._source, self._batch_tokens, self._problems = source, batch_tokens, problems

    def edges(self, size):
        """Every line that ends a multiple of `size` bytes or more after the edge before it."""
        last = byte = number = 0
        for line in self._source.path.read_bytes().splitlines(keepends=True)[:-1]:
            byte, number = byte + len(line), number + 1
            if byte - last >= size:
                yield {"line": number, "byte": byte}
                last = byte

    def chunks(self, position, end=None):
        number, byte = position.get("line", 0), position.get("byte", 0)
        stop = self._source.size if end is None else end["byte"]
        documents, numbers = [], []
        with self._source.path.open("rb") as file:
            file.seek(byte)
            while byte < stop:
                line = file.readline()
                byte, number = byte + len(line), number + 1
                try:
                    documents.append(np.array([int(word) for word in line.split()], np.uint32))
                    numbers.append(number)
                except (ValueError, OverflowError):  # no numbers, or none of 32 bits
                    self._problems.record(f"{self._source.path}:{number}", "not ids")
                if byte >= stop or sum(map(len, documents)) >= self._batch_tokens:
                    locations = Locations(self._source.path, np.array(numbers, np.int64), "line")
                    after = {"line": number, "byte": byte}
                    yield Chunk(Documents.of(documents), None, locations, after, byte)
                    documents, numbers = [], []


FORMAT = Ids()
