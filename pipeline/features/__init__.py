"""Which features are computed, and from what."""
