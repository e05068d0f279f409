"""Which classes a contract is for: those of the package below an interface that have none below."""

import impindiff


def final_classes(interface: type) -> set[type]:
    """All final classes below an interface that have a name of their own to the outside.

    Without those of tests and of built-in cases.
    """
    below = set().union(*(final_classes(sub) for sub in interface.__subclasses__()), set())
    package, _, rest = interface.__module__.partition(".")
    is_ours = package == impindiff.__name__ and not rest.startswith("cases.")
    return below or ({interface} if is_ours and not interface.__name__.startswith("_") else set())
