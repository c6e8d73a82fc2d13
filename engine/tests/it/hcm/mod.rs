//! Host connection managers.

mod carried;
