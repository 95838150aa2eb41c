"""The code, the catalogue and examples that are run → docs/reference. `make reference` writes it."""
