"""What GRUB measures when it boots a host: predicted from its files, without running it."""
