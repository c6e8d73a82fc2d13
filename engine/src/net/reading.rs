//! One read of a terminal's socket.

use mio::net::TcpStream;
use std::io::{ErrorKind, Read};

/// What became of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Never again.
    End,
}

/// Reads once. `readable` says afterwards whether there may be more; `ended`: polling has said that the terminal will send no more.
pub(super) fn read_once(
    stream: &mut TcpStream,
    readable: &mut bool,
    ended: bool,
    buffer: &mut [u8],
) -> Received {
    loop {
        return match stream.read(buffer) {
            Ok(0) => Received::End,
            Ok(bytes) => {
                // A short read empties the socket; what comes later makes a new event, but for the end, which has made one.
                *readable = ended || bytes == buffer.len();
                Received::Bytes(bytes)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                *readable = false;
                Received::Nothing
            }
            Err(_) => Received::End,
        };
    }
}
