"""A report as slides: one deck for each chip."""

from oectflow.pipeline.outputs.slides.deck import write_decks

__all__ = ["write_decks"]
