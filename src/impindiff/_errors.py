"""The two ways a run can go wrong that are not a bug of this package.

They are apart because their remedies are: an `InputError` is mended by the user before anything is
computed, a `NumericsError` comes out of a computation and says what was saved and how to go on.
The command line turns them into exit status 2 and 3.
"""


class InputError(ValueError):
    """The user's input is wrong: a config key, a data file, an argument."""


class NumericsError(RuntimeError):
    """The numerics failed: a solve that did not converge, a loss that is not finite."""
