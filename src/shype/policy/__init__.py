"""The policy language: source spans, model, reader, validator, bundle form."""
