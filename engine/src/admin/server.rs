//! The socket's listening end.

use super::desk::{Site, answer};
use super::protocol::{Reply, Request};
use crate::network::Office;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Listens in a data directory that this process holds the lock of, and answers until the process ends.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(data: &Path, office: Office, site: Site) -> io::Result<()> {
    serve_with(data, move |request, input, say| answer(request, &office, &site, input, say))
}

/// The same for a process without an office. `answer` makes one request a reply; see [`super::answer`].
///
/// # Errors
/// The socket cannot be made.
pub fn serve_with<A>(data: &Path, answer: A) -> io::Result<()>
where
    A: Fn(Request, &mut dyn Read, &mut dyn FnMut(Reply) -> io::Result<()>) -> Reply + Send + Sync + 'static,
{
    let (path, fresh) = (data.join(SOCKET_FILE), data.join(FRESH_FILE));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    // Nobody finds it under this name before only its owner may connect.
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, &path)?;
    thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let (open, answer) = (Arc::<AtomicUsize>::default(), Arc::new(answer));
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if open.load(Relaxed) >= CONNECTIONS_MAX {
                continue;
            }
            open.fetch_add(1, Relaxed);
            let (answer, open) = (Arc::clone(&answer), Arc::clone(&open));
            thread::spawn(move || {
                if let Err(error) = converse(&stream, &*answer) {
                    tracing::debug!("an operator's connection ended: {error}");
                }
                open.fetch_sub(1, Relaxed);
            });
        }
    })?;
    Ok(())
}

fn converse<A>(stream: &UnixStream, answer: &A) -> io::Result<()>
where
    A: Fn(Request, &mut dyn Read, &mut dyn FnMut(Reply) -> io::Result<()>) -> Reply,
{
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut input = BufReader::with_capacity(1 << 16, stream);
    let mut line = String::new();
    input.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)?;
    let mut say = |reply: Reply| send(stream, &reply);
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => answer(request, &mut input, &mut say),
        Err(error) => Reply::No { reason: format!("this request is not understood: {error}") },
    };
    send(stream, &reply)
}

fn send(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// The socket's name in a data directory.
pub const SOCKET_FILE: &str = "pinwheel.sock";
const FRESH_FILE: &str = "pinwheel.sock.new";
/// Operators at a time.
const CONNECTIONS_MAX: usize = 32;
/// Longest request, in bytes: a list of all the terminals that one command may add.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// An operator who says nothing for so long in the middle of a request, or does not read the reply, is given up.
const SILENCE: Duration = Duration::from_secs(60);
