//! Load generator for Pinwheel.

fn main() {}
