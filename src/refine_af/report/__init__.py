"""The run's report: one HTML page made from the database alone, which opens offline and prints.

:func:`write_report` works at any time, also for a run that has just begun: what is missing is said.
"""

from __future__ import annotations

from pathlib import Path

from refine_af.errors import RefineError
from refine_af.files import write_text
from refine_af.store import Store

__all__ = ["write_report"]


def write_report(store: Store, path: Path, *, title: str = "REFINE-AF run") -> None:
    """Writes the page to ``path``, whole or not at all. Equal databases give equal pages."""
    page = _render(store, title)
    try:
        write_text(Path(path), page)
    except OSError as error:
        raise RefineError(f"the report can't be written to {path}: {error.strerror}") from error


def _render(store: Store, title: str) -> str:
    # Late: jinja2 is needed only when a page is made.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from refine_af.report.data import collect
    from refine_af.report.view import view

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # a model's text is hostile until it is escaped
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = store.path.resolve().parent.name
    return environment.get_template("page.html.j2").render(view(collect(store), title=title, folder=folder))
