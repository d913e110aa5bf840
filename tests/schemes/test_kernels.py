"""Every kernel that the machine has: the same numbers, and errors for what it has not."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import radscore as rs

from tests.twin.schemes.families import FAMILIES

CODE = "import radscore as rs; print(rs.kernels.kernel())"


@pytest.fixture(autouse=True)
def kernel_in_force():
    before = rs.kernels.kernel()
    yield
    rs.kernels.set_kernel(before)


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


#: Every way of computing, over a vocabulary that fills the lanes.
SCHEMES = {
    f"{name}-{i}": family.public(replace(twin, vocab_size=5000))
    for name, family in FAMILIES.items()
    for i, twin in enumerate(family.examples)
}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_every_kernel_gives_the_same_result(scheme):
    ids = np.random.default_rng(5).integers(0, 5000, 1501)

    def result(kernel):
        rs.kernels.set_kernel(kernel)
        assert rs.kernels.kernel() == kernel
        scorer = rs.Scorer([scheme], dedup="window", threads=2)
        scorer.add([ids[:40], ids])
        found = scorer.results()[0]
        return found.n_scored, found.statistic, found.log10_pvalue

    results = {kernel: result(kernel) for kernel in rs.kernels.available_kernels()}
    assert all(found == results["scalar"] for found in results.values()), results


def test_auto_is_the_fastest():
    rs.kernels.set_kernel("scalar")
    rs.kernels.set_kernel("auto")
    assert rs.kernels.kernel() == rs.kernels.available_kernels()[-1]


def test_an_unknown_kernel():
    with pytest.raises(rs.errors.ArgumentError, match=r'kernel must be auto, .* not "sse9"'):
        rs.kernels.set_kernel("sse9")


@pytest.mark.parametrize("kernel", ["avx2", "avx512"])
def test_a_kernel_that_the_machine_lacks(kernel):
    if kernel in rs.kernels.available_kernels():
        pytest.skip("the machine has it")
    with pytest.raises(
        rs.errors.ArgumentError, match=rf'kernel is "{kernel}", which this processor'
    ):
        rs.kernels.set_kernel(kernel)


@pytest.mark.parametrize("kernel", rs.kernels.available_kernels())
def test_the_environment_forces_a_kernel(kernel):
    assert python(CODE, RADSCORE_KERNEL=kernel).stdout.strip() == kernel


@pytest.mark.parametrize("name", ["", "auto"])
def test_an_environment_that_does_not_ask(name):
    assert python(CODE, RADSCORE_KERNEL=name).stdout.strip() == rs.kernels.available_kernels()[-1]


def test_an_environment_that_asks_for_nonsense():
    found = python(CODE, RADSCORE_KERNEL="sse9")
    assert found.returncode != 0
    assert "ArgumentError: RADSCORE_KERNEL must be auto, scalar, avx2 or avx512" in found.stderr
