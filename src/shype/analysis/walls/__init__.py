"""What the Chinese Wall lets run together: states, traces, maximal sets, starvation, vacuous walls.

`coexistence.Walls` is the model that all questions are asked of.
"""
