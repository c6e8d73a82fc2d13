//! Host connection managers.

mod cache;
mod carried;
mod networks;
mod relay;
mod relay_faults;
