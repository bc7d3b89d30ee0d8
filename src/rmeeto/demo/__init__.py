"""The demo: the whole idea on handwritten digits, within a given time."""

from rmeeto.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
