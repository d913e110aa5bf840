"""What the tests of runs share."""

INPUT = ("corpus", "--dtype", "uint16", "--eod", 7)
SCHEME = ("--scheme", "scheme.toml", "--key-file", "alice.key")


def score(cli, *options):
    """The result of ``radscore score``, which must succeed."""
    done = cli("score", *INPUT, *SCHEME, "--json", "--quiet", *options)
    assert done.code == 0, done.err
    return done.json
