"""The desk of the lab: results in a browser, worst fits first, marked with a key.

``index`` sums a folder of results up, ``desk`` knows what is chosen, shown and marked (neither
knows of a browser); ``views`` make Bokeh's models of that, and ``server`` serves them.
"""
