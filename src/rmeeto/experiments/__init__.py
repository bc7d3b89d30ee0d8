"""The paper's tables and figures as data, and what runs, stores and judges them."""
