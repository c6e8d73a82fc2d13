//! The seller: the journalled node that answers for sequences.
//!
//! [`Seller`] is one worker's share of it: home terminals, their windows, the lanes it claims from.

mod abroad;
mod catalogue;
mod library;
mod sale;
#[cfg(test)]
mod tests;
mod window;
mod windows;

pub use abroad::{ABROAD, AskedHere};
pub use library::{Library, Sealed};
pub use sale::{Asker, Lookup, Question, Replies, SaleTally, Seller, Service};
pub use window::{Answer, Window, WindowFull};
pub use windows::Windows;
