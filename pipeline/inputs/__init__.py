"""What goes in: experiments in HDF5, instrument folders, simulated devices."""
