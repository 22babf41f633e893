"""What a change of policy would do, computed before it is applied. Standard library only."""
