//! Host connection managers.

mod cache;
mod carried;
