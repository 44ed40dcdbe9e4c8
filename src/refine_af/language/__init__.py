"""How texts of a language are read: cut into words, counted and compared. English as published scores read it, all
others by Unicode."""

from refine_af.language.coverage import unseen_note
from refine_af.language.language import ENGLISH, Language

__all__ = ["ENGLISH", "Language", "unseen_note"]
