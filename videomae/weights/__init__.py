"""Weights: their formats, safe reading of untrusted files, and loading into models."""
