//! Host connection managers.

mod cache;
