"""Measurement of the time that translations take, for tables of latencies."""
