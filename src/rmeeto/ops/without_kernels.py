"""What is slower without kernels, for all messages. ``setup.py`` runs this file by its path, so it imports nothing."""

SLOWDOWN = "10 to 20 times slower"  # a scan in plain PyTorch
