"""The fault campaign: one file a family of faults, `lab` the tools that they share."""
