"""Measurement of the time that translations and texts take, for tables of latencies."""
