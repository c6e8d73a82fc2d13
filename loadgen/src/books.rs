//! The network's books, asked for over the operators' socket: one JSON line each way.

use crate::catalogue::Variety;
use crate::check::{Findings, Wrong};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The way to the books of a running network.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    socket: PathBuf,
}

/// Why the books cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the books at {socket}: {source}")]
pub struct BooksError {
    socket: PathBuf,
    source: io::Error,
}

/// How the books stood at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// By variety.
    pub stock: BTreeMap<String, Shelf>,
}

/// Where the PINs of a variety are.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    /// What terminals ask for.
    pub variety: Variety,
    /// Not yet sold, anywhere in the network.
    pub unsold: u64,
    /// Sold, and what was sold and then voided.
    pub sold: u64,
}

impl Books {
    /// The books of a data directory, or at a socket.
    #[must_use]
    pub(crate) fn at(path: &Path) -> Self {
        let socket = if path.is_dir() { path.join(SOCKET_FILE) } else { path.to_owned() };
        Self { socket }
    }

    /// How things stand now, when everything sold so far has reached the hub.
    ///
    /// # Errors
    /// [`BooksError`], also if sales do not reach the hub within ten seconds.
    pub(crate) fn settled(&self) -> Result<Standing, BooksError> {
        let until = Instant::now() + SETTLE_MAX;
        loop {
            let Reply::Status { journal_durable, journal_acknowledged, varieties } = self.ask("status")?
            else {
                return Err(self.unexpected("no status"));
            };
            if journal_acknowledged >= journal_durable {
                let Reply::Varieties { varieties: rows } = self.ask("list_varieties")? else {
                    return Err(self.unexpected("no varieties"));
                };
                let variety = |code: &str| {
                    let row = rows.iter().find(|row| row.code == code)?;
                    Some(Variety { product: row.product, face_value: row.face_value })
                };
                let shelf = |status: StatusRow| {
                    let unsold = status.hub + status.in_transfer + status.at_seller;
                    let variety = variety(&status.code)?;
                    Some((status.code, Shelf { variety, unsold, sold: status.sold }))
                };
                return Ok(Standing { stock: varieties.into_iter().filter_map(shelf).collect() });
            }
            if Instant::now() > until {
                return Err(self.unexpected("sales do not reach the hub"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether every PIN is in exactly one place, and the whole report for people.
    ///
    /// # Errors
    /// [`BooksError`].
    pub(crate) fn audit(&self) -> Result<(bool, String), BooksError> {
        match self.ask("audit")? {
            Reply::Audit { balanced, text } => Ok((balanced, text)),
            _ => Err(self.unexpected("no audit")),
        }
    }

    fn ask(&self, want: &str) -> Result<Reply, BooksError> {
        let failed = |source| BooksError { socket: self.socket.clone(), source };
        let asked = UnixStream::connect(&self.socket).and_then(|mut stream| {
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            writeln!(stream, "{{\"want\":\"{want}\"}}")?;
            let mut lines = BufReader::new(stream).lines();
            loop {
                let line = lines.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()))?;
                match serde_json::from_str(&line)? {
                    Reply::Progress => {}
                    Reply::No { reason } => return Err(io::Error::other(reason)),
                    reply => return Ok(reply),
                }
            }
        });
        asked.map_err(failed)
    }

    fn unexpected(&self, what: &str) -> BooksError {
        BooksError { socket: self.socket.clone(), source: io::Error::other(what.to_owned()) }
    }
}

/// What terminals received of one variety.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// In sales of this run.
    pub sold: u64,
    /// In sales that an earlier run began, and sequences whose outcome nobody knows: these may be in the books of
    /// before or of after.
    pub uncertain: u64,
}

/// Compares the books with what terminals received. With `shared`, others may have bought too.
pub(crate) fn reconcile(
    before: &Standing,
    after: &Standing,
    received: impl Fn(Variety) -> Received,
    shared: bool,
    findings: &mut Findings,
) {
    for (code, shelf) in &after.stock {
        let Received { sold, uncertain } = received(shelf.variety);
        let earlier = before.stock.get(code).map_or(0, |shelf| shelf.sold);
        let booked = shelf.sold.saturating_sub(earlier);
        if booked < sold {
            findings.add(Wrong::Books, || {
                format!(
                    "{code}: terminals received {sold} PINs, the books hold {booked} as sold in that time"
                )
            });
        } else if booked > sold + uncertain && !shared {
            findings.add(Wrong::Books, || {
                format!("{code}: {booked} PINs were sold by the books, terminals received {sold} (others bought? --shared)")
            });
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
enum Reply {
    Progress,
    Status { journal_durable: u64, journal_acknowledged: u64, varieties: Vec<StatusRow> },
    Varieties { varieties: Vec<VarietyRow> },
    Audit { balanced: bool, text: String },
    No { reason: String },
}

#[derive(Debug, Deserialize)]
struct StatusRow {
    code: String,
    hub: u64,
    in_transfer: u64,
    at_seller: u64,
    sold: u64,
}

#[derive(Debug, Deserialize)]
struct VarietyRow {
    code: String,
    product: u32,
    face_value: u64,
}

const SOCKET_FILE: &str = "pinwheel.sock";
const SETTLE_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(sold: u64) -> Standing {
        let variety = Variety { product: 1, face_value: 2 };
        Standing { stock: BTreeMap::from([("a".to_owned(), Shelf { variety, unsold: 5, sold })]) }
    }

    fn found(booked: u64, sold: u64, uncertain: u64, shared: bool) -> u64 {
        let mut findings = Findings::default();
        let received = |_| Received { sold, uncertain };
        reconcile(&standing(100), &standing(100 + booked), received, shared, &mut findings);
        findings.count(Wrong::Books)
    }

    #[test]
    fn the_books_must_hold_what_was_received_no_less_and_no_more() {
        assert_eq!(found(10, 10, 0, false), 0);
        assert_eq!(found(9, 10, 0, true), 1, "a PIN was received and is not booked");
        assert_eq!(found(11, 10, 0, false), 1, "a PIN was booked and not received");
        assert_eq!(found(11, 10, 0, true), 0);
        assert_eq!(found(11, 10, 1, false), 0);
    }
}
