//! The simulator's engine.
