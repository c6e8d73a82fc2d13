//! The socket's calling end.

use super::protocol::{Reply, Request};
use super::server::SOCKET_FILE;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing runs in this data directory.
    #[error("nothing runs here")]
    NotRunning,
    /// The connection failed; what was asked for may or may not be done.
    #[error("the running process did not answer: {0}")]
    Lost(#[from] io::Error),
}

/// Asks the process that runs in a data directory. `input` follows the request; `hear` gets what is said on the way.
///
/// # Errors
/// [`AskError`].
pub fn ask(
    data: &Path,
    request: &Request,
    input: Option<Box<dyn Read + Send>>,
    mut hear: impl FnMut(Reply),
) -> Result<Reply, AskError> {
    let stream = match UnixStream::connect(data.join(SOCKET_FILE)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(AskError::NotRunning);
        }
        connected => connected?,
    };
    let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
    line.push(b'\n');
    (&stream).write_all(&line)?;
    if let Some(mut input) = input {
        let mut to = stream.try_clone()?;
        // It may reply before it has read all, and then reads no more.
        thread::spawn(move || drop(io::copy(&mut input, &mut to)));
    }
    let mut replies = BufReader::new(&stream);
    let mut line = String::new();
    loop {
        line.clear();
        if replies.read_line(&mut line)? == 0 {
            return Err(AskError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&line).map_err(io::Error::from)? {
            part @ (Reply::Progress { .. } | Reply::Sequences { .. }) => hear(part),
            reply => return Ok(reply),
        }
    }
}
