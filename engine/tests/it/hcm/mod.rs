//! Host connection managers.

mod cache;
mod carried;
mod lost;
mod networks;
mod relay;
mod relay_faults;
