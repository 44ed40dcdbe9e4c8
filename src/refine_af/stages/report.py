"""Makes the page that a person opens."""

from __future__ import annotations

from refine_af.records import StageCounts
from refine_af.report import write_report
from refine_af.stages.context import Context

STAGE = "report"


def run_report(context: Context) -> str:
    context.progress.begin(STAGE, 1, "pages")
    target = context.folder / "report.html"
    context.store.finish_stage(STAGE, StageCounts())  # first, so that the page doesn't show itself as missing
    write_report(context.store, target)
    return f"open {target}"
