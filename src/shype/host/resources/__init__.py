"""Disks, networks and other devices of VMs: what they really are, and who may have them.

`device`: what a configuration asks for; `identity`: what a path leads to; `qcow2`: the files
behind an image; `labels`: which entries of a policy name a thing; `judge`: the decisions;
`registry`: the label a disk was last used with; `backend`: what a backend really has; `attach`
and `hotplug`: devices that come while a VM runs.
"""
