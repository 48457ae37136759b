"""Other machines that run the model files: how a user names them, and how to open one."""

from levit_edge.devices.device import LOCAL, Count, Device, Kernel
from levit_edge.devices.registry import add_qemu, open_device, qemu_row, remove_qemu

__all__ = ["LOCAL", "Count", "Device", "Kernel", "add_qemu", "open_device", "qemu_row", "remove_qemu"]
