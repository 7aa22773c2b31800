"""What the kernel says and does: cgroupfs, procfs, inotify, process events."""
