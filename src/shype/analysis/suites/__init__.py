"""Policy tests (`shype test`): what a policy is expected to answer, written down and asked.

For the author's machine: test files are YAML, which no host reads.
"""
