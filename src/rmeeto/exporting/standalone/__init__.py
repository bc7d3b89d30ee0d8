"""What an exported folder's ``run.py`` is made of. Nothing here needs rmeeto or torch."""
