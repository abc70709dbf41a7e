"""Results as a publication (RO-Crate, Frictionless) that another machine computes again."""
