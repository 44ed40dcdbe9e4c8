"""The data set that a run makes: rows, files, card."""
