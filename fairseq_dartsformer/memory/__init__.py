"""Memory of a training: measured, and planned on tensors without contents."""
