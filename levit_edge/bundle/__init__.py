"""Bundles: what lies in one, and how a build is published whole or not at all."""
