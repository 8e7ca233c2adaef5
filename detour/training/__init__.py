"""Training with Composer: the phase switch, gradients, checkpoints, callbacks and loggers."""
