"""All mistakes, in one table."""

from in_numerics import NUMERICS
from in_workflow import WORKFLOW

MUTATIONS = [*NUMERICS, *WORKFLOW]
