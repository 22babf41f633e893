"""The manager: a small domain that has dom0's rights to set FLASK booleans and load policies.

`authority` decides in it, by `succession`, `rights` and `incoming` also which policy may follow;
`serve` is its first process, `image` packs them into an initial RAM disk, `start` starts it, and
`link` is how dom0 asks it, through `managed` for all that is the reference monitor's.
"""
