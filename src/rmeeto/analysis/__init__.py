"""What measurements mean: information that a block passes on, and which tokens an output depends on."""
