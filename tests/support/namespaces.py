"""The namespaces of public names, `ipd.solvers` and its like, as three tests read them."""

NAMESPACES = (
    "boundaries",
    "latents",
    "memory",
    "observations",
    "optimisers",
    "preconditioners",
    "solvers",
    "steppers",
)
