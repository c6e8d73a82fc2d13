//! The words under which things are counted.

use std::io;
use wire::control::{ByeReason, ErrorCode};
use wire::message::{DeclineReason, LaterReason, RefuseReason};

/// The word for a reason.
#[must_use]
pub(crate) fn later_word(reason: LaterReason) -> &'static str {
    match reason {
        LaterReason::Stock => "stock",
        LaterReason::Disk => "disk",
        LaterReason::Busy => "busy",
        LaterReason::Stopping => "stopping",
        LaterReason::InDoubt => "in doubt",
    }
}

/// The word for a reason.
#[must_use]
pub(crate) fn declined_word(reason: DeclineReason) -> &'static str {
    match reason {
        DeclineReason::NoSuchVariety => "no such variety",
        DeclineReason::OutOfStock => OUT_OF_STOCK,
        DeclineReason::NotPermitted => "not permitted",
        DeclineReason::DealerInactive => "dealer inactive",
        DeclineReason::Blocked => "blocked",
    }
}

/// The word for a decline that empties the shelf.
pub(crate) const OUT_OF_STOCK: &str = "out of stock";

/// The word for a reason.
#[must_use]
pub(crate) fn refused_word(reason: RefuseReason) -> &'static str {
    match reason {
        RefuseReason::SequenceUsed => "sequence used",
        RefuseReason::OtherVariety => "other variety",
        RefuseReason::Closed => "closed",
        RefuseReason::WindowFull => "window full",
        RefuseReason::NothingSold => "nothing sold",
        RefuseReason::ReprintLimit => "reprint limit",
        RefuseReason::OutOfOrder => "out of order",
    }
}

/// Why a connection ended.
pub(crate) fn io_word(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset",
        io::ErrorKind::TimedOut => "connection timed out",
        io::ErrorKind::AddrNotAvailable => "no free port",
        _ => "network error",
    }
}

/// Why a connection ended.
pub(crate) fn bye_word(reason: ByeReason) -> &'static str {
    match reason {
        ByeReason::Done => "bye: done",
        ByeReason::Stopping => "bye: stopping",
        ByeReason::Idle => "bye: idle",
        ByeReason::Replaced => "bye: replaced",
        ByeReason::Redirect => "bye: redirect",
        ByeReason::Busy => "bye: busy",
        ByeReason::Renew => "bye: renew",
    }
}

/// Why a connection ended.
pub(crate) fn error_word(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Authentication => "error: authentication",
        ErrorCode::Mode => "error: mode",
        ErrorCode::Suite => "error: suite",
        ErrorCode::Version => "error: version",
        ErrorCode::Timeout => "error: timeout",
        ErrorCode::Limit => "error: limit",
        _ => "error: frame",
    }
}
