"""Manifolds."""
