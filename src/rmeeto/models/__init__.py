"""Networks: Vision Mamba and its relatives. Read :mod:`rmeeto.models.backbone` top to bottom."""
