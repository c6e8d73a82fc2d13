//! Tests of the engine from outside.

mod pool;
mod simulation;
