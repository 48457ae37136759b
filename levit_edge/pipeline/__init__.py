"""The flow: ``build`` with a file for each of its steps, and a file for each other verb.

The steps in their order: ``plan``, ``load``, ``images``, ``calibrate``, for each target ``lower`` and ``verify``, then
``measure``; ``describe`` writes what a bundle and the report say. Each verb is a function of one options record
(``options``) that gives one answer record; ``import levit_edge`` offers them all.
"""
