"""The version of pyro, where the lowest layer can reach it."""

__version__ = "0.1.0"
