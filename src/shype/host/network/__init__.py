"""Frames between VMs on dom0's bridges: who may send to whom, by the policy.

`vif`: what is on the bridges; `matrix`: what the policy says of it; `ruleset`: the same for
nftables; `switch`, `linux`: the kernel's bridges; `mediation`: keeps them true to the policy.
"""
