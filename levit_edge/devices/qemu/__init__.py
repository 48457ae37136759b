"""ARM without a board: the aarch64 builds of the runtimes in QEMU's user-mode emulation, one core model at a time."""
