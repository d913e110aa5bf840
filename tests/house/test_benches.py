"""The answers of the benchmarks hold, at sizes that take no time."""

import pytest

pytest.importorskip("polars")
pytest.importorskip("duckdb")

from benches import (
    bench_core,
    bench_flow,
    bench_outofcore,
    bench_synthid,
    bench_vllm_vs_numpy,
    bench_weighted,
)


@pytest.mark.parametrize("bench", [bench_core, bench_flow, bench_vllm_vs_numpy, bench_weighted])
def test_answers_are_those_of_the_peer(bench):
    assert bench.rows(20_000)


def test_a_run_under_a_limit_keeps_it():
    assert bench_outofcore.rows((20_000,), "64MiB")


def test_synthid_finds_the_marked():
    assert bench_synthid.rows(400_000)
