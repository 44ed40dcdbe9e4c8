"""Prompt templates, and the parsers that read what comes back."""
