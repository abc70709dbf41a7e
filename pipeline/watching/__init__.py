"""Instrument folders are ingested and extracted as they come."""
