"""Providers talk: the contract, the registry, the factory, and one file per backend."""
