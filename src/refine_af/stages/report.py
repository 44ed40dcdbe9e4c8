"""Makes the page that a person opens."""

from __future__ import annotations

from refine_af.records import StageCounts
from refine_af.report import write_report
from refine_af.stages.context import Context

STAGE = "report"


def run_report(context: Context) -> str:
    context.progress.begin(STAGE, 1, "pages")
    target = context.folder / "report.html"
    write_report(context.store, target)  # before the stage is done, so that a done stage has a page
    context.store.finish_stage(STAGE, StageCounts())
    write_report(context.store, target)  # and after, so that the page shows every stage as done
    return f"open {target}"
