"""Readers: from what an instrument left behind to measurements, one module per format."""
