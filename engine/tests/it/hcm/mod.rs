//! Host connection managers.

mod carried;
mod networks;
mod relay;
mod relay_faults;
