"""The command line: thin. It parses, calls the library, renders, and chooses the exit code."""
