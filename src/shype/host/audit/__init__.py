"""The record of what the agent decided, changed and refused (FAU_GEN.1).

`event`: what a record says; `trail`: where it is kept.
"""
