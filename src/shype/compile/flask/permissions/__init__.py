"""What information each of Xen's FLASK permissions lets flow."""
