"""`python -m refine_af` is `refine-af`."""

from refine_af.cli import main

main()
