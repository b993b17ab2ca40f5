"""Evolutionary search with a supernet's weights: population, scores and their record."""
