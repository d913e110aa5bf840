"""What a corpus gives, and how it refuses."""

import pytest
from radscore.corpus import open_corpus
from radscore.errors import RadscoreError


def ids_of(corpus, start=None):
    return [doc.tolist() for batch in corpus.batches(start) for doc in batch.documents]


def refused(path, match, **options):
    """The one line, of no excessive length, that reading ends with."""
    with pytest.raises(RadscoreError, match=match) as caught:
        ids_of(open_corpus(path, **options))
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    return text
