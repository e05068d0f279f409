"""Chemical vapour infiltration: the equations, the data, and how well carbon is accounted for."""
