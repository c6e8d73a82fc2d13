//! Tests of the engine from outside.

mod killed;
mod pool;
mod simulation;
mod support;
