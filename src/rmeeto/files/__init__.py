"""Reading and writing files: paths as people give them, JSON, writing that survives a power cut, a run's file names."""
