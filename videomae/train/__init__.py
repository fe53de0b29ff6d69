"""Training: the two stages, the loop, optimiser steps, sharding, checkpoints and health checks."""
