"""Other machines that run the model files: how a user names them, and how to open one."""

from targets.devices.base import LOCAL, Count, Device, Kernel
from targets.devices.registry import add_qemu, open_device, qemu_row, remove_qemu

__all__ = ["LOCAL", "Count", "Device", "Kernel", "add_qemu", "open_device", "qemu_row", "remove_qemu"]
