"""The kinds of measurement that are built in, one module each."""
