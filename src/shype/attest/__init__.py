"""Attestation: evidence of what a host runs, and its appraisal on another machine.

The words are those of RFC 9334 (RATS): the host is the attester, its TPM's quote and the event
log are evidence, what is expected is a set of reference values, who compares is the verifier,
and its signed answer is an attestation result (`shype.host.attest_result`).
"""
