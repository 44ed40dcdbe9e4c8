"""The paper's comparison inside a run: what its arms are trained on, and what their evaluations say. The order of
things is in ``stages/arms.py``."""
