"""Networks: Vision Mamba and its relatives. Read :mod:`rmeeto.models.vim.backbone` top to bottom."""
