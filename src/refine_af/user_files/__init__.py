"""Reads the files that users hand over: what form they have, what their columns are called, and what a cell says.

Each fault is one line with the file and where in it. What the fields of a row mean is left to those who ask for it.
"""

from refine_af.user_files.json_rows import json_rows
from refine_af.user_files.names import Wanted
from refine_af.user_files.read import FileRow, ReadFile, is_csv, named_rows, pair_of, read_file, untold
from refine_af.user_files.text import numbered_lines, read_bytes, read_text
from refine_af.user_files.values import text_of, whole_text, yes_or_no

__all__ = [
    "FileRow",
    "ReadFile",
    "Wanted",
    "is_csv",
    "json_rows",
    "named_rows",
    "numbered_lines",
    "pair_of",
    "read_bytes",
    "read_file",
    "read_text",
    "text_of",
    "untold",
    "whole_text",
    "yes_or_no",
]
