"""Where arrays lie, however they are made."""

import ml_dtypes
import numpy as np
import pytest

from attngraph.engine.codegen.layout import address_of

BASE = np.arange(24, dtype="float32").reshape(2, 3, 4)
READ_ONLY = BASE.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "array",
    [
        BASE,
        BASE[1:],
        BASE[:, ::-1],
        BASE.T,
        READ_ONLY,
        np.float64(3) * np.ones(()),
        np.empty((0, 3)),
        np.zeros(5, ml_dtypes.bfloat16),
        np.zeros(5, "float16"),
        np.zeros(5, ">f4"),
        np.frombuffer(b"12345678", np.int32),
    ],
    ids=lambda array: f"{array.dtype} {array.shape} {array.strides}",
)
def test_an_address_is_that_of_the_first_element(array):
    assert address_of(array) == array.__array_interface__["data"][0]
