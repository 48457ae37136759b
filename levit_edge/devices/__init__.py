"""Where bundles run: the machines that execute, time or count the files of a target, and how a user names them."""

from levit_edge.devices.device import LOCAL, Count, Device, Kernel, Timing, runtimes
from levit_edge.devices.registry import (
    add_device,
    add_help,
    addable,
    device_help,
    doctor_rows,
    open_device,
    remove_device,
)

__all__ = [
    "LOCAL",
    "Count",
    "Device",
    "Kernel",
    "Timing",
    "add_device",
    "add_help",
    "addable",
    "device_help",
    "doctor_rows",
    "open_device",
    "remove_device",
    "runtimes",
]
