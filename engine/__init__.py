"""The compiler and what runs its graphs. Nothing in here knows an operator by name."""
