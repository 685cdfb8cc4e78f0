"""Servers of others that run here for development and tests."""
