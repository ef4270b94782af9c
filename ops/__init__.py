"""The operators: one file a family, one class an operator with all its rules."""
