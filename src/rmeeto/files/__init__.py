"""Reading and writing files: paths, JSON, writing that survives a power cut, the names of a run's files."""
