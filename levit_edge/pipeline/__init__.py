"""The flow: ``build`` with a file for each of its steps, and a file for each other verb.

The steps in their order: ``load``, ``images``, ``calibrate``, ``lower``, ``verify``, ``measure``, ``describe``. Each
verb is a function of one options record (``options``) that gives one answer record; ``import levit_edge`` offers them.
"""
