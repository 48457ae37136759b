"""Bundles: what lies in one, and how it is published whole or not at all."""
