"""The lab: a real Xen host with XSM/FLASK inside QEMU, without KVM, hardware or a spare machine.

`shype.lab.builder` makes it once, `shype.lab.host.Lab` runs it.
"""
