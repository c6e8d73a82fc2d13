//! Why a connection of a link ends.

use crate::link::NotUnderstood;
use std::io;
use wire::link::LinkError;

#[derive(Debug, thiserror::Error)]
pub(in crate::net) enum Fault {
    /// Without a word, or the connection broke.
    #[error("the other end closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the other end broke the protocol or was not understood: {0}")]
    Protocol(LinkError),
    /// It sent an error frame.
    #[error("{0}")]
    Refused(LinkError),
    #[error(transparent)]
    Message(#[from] NotUnderstood),
    #[error("a message came on the wrong channel")]
    Channel,
    /// In a close frame.
    #[error("the other end closed the link: {0}")]
    Said(String),
    #[error("nothing was heard for {0} ms")]
    Silent(u64),
    #[error("nothing could be sent for {0} ms")]
    Stalled(u64),
    #[error("the other end does not take what is sent: {0} bytes wait")]
    Full(usize),
    #[error("the link did not come up within {0} ms")]
    Slow(u64),
    /// Of this end's own accord.
    #[error("{0}")]
    Ours(String),
}

impl From<LinkError> for Fault {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Refused(_) => Self::Refused(error),
            _ => Self::Protocol(error),
        }
    }
}
