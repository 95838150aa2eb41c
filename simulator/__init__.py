"""A whole business on the local stack, with faults, judged by an independent oracle."""
