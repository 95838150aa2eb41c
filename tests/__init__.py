"""Behaviour of Tillbase, seen through its public surface."""
