//! Host connection managers.

mod cache;
mod cache_faults;
mod carried;
mod lost;
mod networks;
mod others;
mod relay;
mod relay_faults;
mod storm;
mod up;
