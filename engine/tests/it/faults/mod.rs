//! Everything that can go wrong between a hub and its servers, on real processes. `spec/stock-transfer.md`, section
//! "Faults and their tests", says which test shows what.

mod away;
mod copies;
mod disks;
mod messages;
mod pair;
mod states;
