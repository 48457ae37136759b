"""ARM without a board: QEMU emulates one ARM core and runs the aarch64 builds of the runtimes on it."""

NAME = "qemu-arm64"  # of the device on the command line, and of its folder
