"""What every layer stands on: errors, child processes, files, canonical JSON."""
