"""From intent to enforcement: compilers, one package per target mechanism."""
