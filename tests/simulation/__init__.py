"""The product's own code in a machine that is made of a seed.

Processes are threads of which exactly one runs at a time; it hands over at every operation
that another process, a crash or a power loss could come between. Which one goes on is drawn
from the seed, and so is everything else, so a seed replays exactly.
"""
