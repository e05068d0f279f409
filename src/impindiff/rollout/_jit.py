"""Compiling programs of rollouts: not longer than their size is worth."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
from jax.core import Tracer

# Up to so many numbers in its largest array, what a program's kernels are made by does not show in
# how long it runs: 100 cells of three fields and samples take as long either way, 64 x 64 cells of
# five samples a quarter longer. XLA's older way makes them in four fifths of the time.
_FEW = 10_000
_PLAIN_KERNELS = {"xla_cpu_use_fusion_emitters": False}


@final
class JitBySize:
    """`equinox.filter_jit`, which on CPUs spends less on compiling programs of small arrays.

    Args:
        function: of arrays and other objects, by position. The largest array among them decides.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        jit: Any = eqx.filter_jit  # whose declared types leave out the options of `jax.jit`
        self._usual = jit(function)
        self._small = jit(function, compiler_options=_PLAIN_KERNELS)

    def __call__(self, *args: Any) -> Any:
        """What the function gives."""
        return self._for(args)(*args)

    def lower(self, *args: Any) -> Any:
        """The program traced and lowered, see `jax.jit`."""
        return self._for(args).lower(*args)

    def _for(self, args: tuple[Any, ...]) -> Any:
        arrays = [leaf for leaf in jax.tree.leaves(args) if eqx.is_array(leaf)]
        # Within another program, options of the compiler are that one's.
        is_outermost = not any(isinstance(array, Tracer) for array in arrays)
        is_small = max((array.size for array in arrays), default=0) <= _FEW
        on_cpu = jax.default_backend() == "cpu"
        return self._small if is_outermost and is_small and on_cpu else self._usual
