"""The stages: each reads rows, adds rows, and goes on where it stopped."""
