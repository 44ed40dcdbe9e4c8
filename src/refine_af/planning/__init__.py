"""What a run would cost before it is started: tokens, time, memory and disk, each with the arithmetic
behind it."""

from refine_af.planning.fit import Finding, Fit
from refine_af.planning.hardware import Gpu, Hardware, detect
from refine_af.planning.plan import Plan, StagePlan, make_plan
from refine_af.planning.render import render

__all__ = ["Finding", "Fit", "Gpu", "Hardware", "Plan", "StagePlan", "detect", "make_plan", "render"]
