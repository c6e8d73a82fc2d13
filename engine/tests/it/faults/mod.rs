//! Everything that can go wrong between a hub and its servers, on real processes. `spec/stock-transfer.md`, section
//! "Faults and their tests", says which test shows what.

mod states;
