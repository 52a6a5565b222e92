"""The runtime joins providers and supervisors into connections that are supervised and seen."""
