//! The keyhaul binary.
fn main() {}
