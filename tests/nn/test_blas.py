"""BLAS's product in compiled code is numpy's, with the BLAS of torch and with that of scipy, for any sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.extending import get_cython_function_address

from metarl.nn.blas import add_product, sgemm_address

ADDRESSES = {"found": sgemm_address(), "scipy": get_cython_function_address("scipy.linalg.cython_blas", "sgemm")}
SIZE = st.integers(1, 40)


@pytest.mark.parametrize("blas", ADDRESSES)
@settings(max_examples=25, deadline=None)
@given(SIZE, SIZE, SIZE, st.booleans())
def test_a_product_is_added(blas, rows, inputs, outputs, transposed):
    rng = np.random.default_rng(rows)
    x, before = (rng.standard_normal((rows, n), np.float32) for n in (inputs, outputs))
    weight = rng.standard_normal((outputs, inputs) if transposed else (inputs, outputs), np.float32)
    out = before.copy()
    add_product(ADDRESSES[blas], x, weight, transposed, out)
    expected = before.astype(np.float64) + x.astype(np.float64) @ (weight.T if transposed else weight)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5 * inputs)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3), (2, 4)), ((2, 3), (3, 4), (1, 4)), ((2, 3), (4, 3), (2, 4))])
def test_shapes_that_do_not_fit_are_refused(shapes):
    x, weight, out = (np.zeros(shape, np.float32) for shape in shapes)
    with pytest.raises(ValueError, match="do not fit"):
        add_product(sgemm_address(), x, weight, False, out)
