"""Is the policy that the hypervisor has loaded the one of the bundle?  Asked of the hypervisor.

Standard library only: this runs in dom0.
"""
