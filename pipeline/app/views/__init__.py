"""Bokeh's models of what the desk shows; imported by the server alone."""
