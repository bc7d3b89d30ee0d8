"""Vision Mamba (Vim) and VideoMamba."""
