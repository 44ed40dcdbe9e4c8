"""What a process of a team does that doesn't lead."""

from __future__ import annotations

import tempfile
from pathlib import Path

from refine_af.config import Config
from refine_af.parts import Parts
from refine_af.stages.learning import Begin, follow_training
from refine_af.stages.team_engine import Adopt, follow_writing
from refine_af.team import Team


def follow(config: Config, team: Team) -> None:
    """Learns and writes what it is told until there is nothing more."""
    with tempfile.TemporaryDirectory() as scratch:
        parts = Parts(config, Path(scratch))
        while (order := team.told()) is not None:
            if isinstance(order, Begin):
                follow_training(order, parts, team)
            elif isinstance(order, Adopt):
                follow_writing(order, parts, team)
            else:
                raise TypeError(f"{order!r} stands at no beginning")
