"""Tools of the project: checks and generators that `make` runs."""
