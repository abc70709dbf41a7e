"""What notebooks call: experiments of a catalog, their data, and their features."""
