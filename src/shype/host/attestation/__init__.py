"""What a host knows of its own trustworthiness and of its peers', and what depends on it."""
