"""The input: experiments in HDF5, instrument folders, simulated devices."""
