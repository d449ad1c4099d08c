"""The version: of the package, of what it writes into manifests, models and pages."""

__version__ = "1.0.0"
