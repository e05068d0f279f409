"""Programs of small and of large arrays: compiled in another way, the same in all else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compiler

from impindiff.rollout import JitBySize

SIZES = (10, 20_000)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_lowered_is_not_traced_again(size: int):
    traced = []

    @JitBySize
    def twice(x, factors):
        traced.append(x.size)
        return x * factors["of"]

    x, factors = jnp.arange(size, dtype=float), {"of": 2.0, "name": "kept"}
    twice.lower(x, factors).compile()
    np.testing.assert_array_equal(twice(x, factors), 2.0 * np.arange(size))
    assert traced == [size]


@pytest.mark.parametrize("size", SIZES)
def test_it_may_stand_within_other_programs(size: int):
    square = JitBySize(lambda x: x**2)
    x = jnp.ones(size)
    np.testing.assert_array_equal(jax.jit(lambda x: square(x) + 1)(x), 2.0)
    np.testing.assert_array_equal(jax.grad(lambda x: square(x).sum())(x), 2.0)
    np.testing.assert_array_equal(jax.lax.map(square, x[None]), 1.0)


def test_only_small_programs_are_compiled_the_short_way(monkeypatch: pytest.MonkeyPatch):
    options = []
    add = JitBySize(lambda x: x + 1)
    compile_program = compiler.get_compile_options

    def noted(*args, **kwargs):
        options.append(kwargs.get("env_options_overrides"))
        return compile_program(*args, **kwargs)

    monkeypatch.setattr(compiler, "get_compile_options", noted)
    for size in SIZES:
        add(np.ones(size))
    assert [bool(given) for given in options] == [True, False]
