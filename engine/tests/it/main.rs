//! Tests of the engine from outside.

mod damage;
mod durable;
mod full;
mod killed;
mod pool;
mod simulation;
mod support;
