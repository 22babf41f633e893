"""The manager: a small domain that has dom0's right to set FLASK booleans.

`authority` decides in it, `serve` is its first process, `image` packs both into an initial RAM
disk, `start` starts it, and `link` is how dom0 asks it.
"""
