"""Whether the machine is ready and a recipe fits: versions, memory, rows, cost."""
