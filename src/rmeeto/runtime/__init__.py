"""The machine and process that a model runs in: devices, memory, random numbers, other processes, progress."""
