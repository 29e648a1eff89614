//! One machine, from a configuration to its end.
