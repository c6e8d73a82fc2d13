//! The network's books, asked for over the operators' socket: one JSON line each way.

use crate::catalogue::Variety;
use engine::ledger::SequenceFact;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
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
    /// How far each seller's journal was durable, or, of one that is another process, reported.
    pub positions: BTreeMap<u32, u64>,
}

/// Where the PINs of a variety are.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    /// The books' number for it.
    pub id: u32,
    /// What terminals ask for.
    pub variety: Variety,
    /// Not yet sold, anywhere in the network.
    pub unsold: u64,
}

impl Books {
    /// The books of a data directory, or at a socket.
    #[must_use]
    pub(crate) fn at(path: &Path) -> Self {
        Self { socket: if path.is_dir() { path.join(SOCKET_FILE) } else { path.to_owned() } }
    }

    /// How things stand now, when everything that these sellers have sold so far has reached the hub.
    ///
    /// # Errors
    /// [`BooksError`], also if sales do not reach the hub within ten seconds.
    pub(crate) fn settled(&self, wanted: &BTreeSet<u32>) -> Result<Standing, BooksError> {
        let until = Instant::now() + SETTLE_MAX;
        let (mut archived, mut archived_at) = (BTreeMap::new(), Instant::now());
        loop {
            let Reply::Status { hub, sellers, varieties } = self.ask("status")? else {
                return Err(self.unexpected("no status"));
            };
            let nodes = hub.iter().flat_map(|hub| &hub.nodes);
            let mut positions: BTreeMap<u32, u64> =
                nodes.map(|row| (row.seller, row.journal_acknowledged)).collect();
            let here: BTreeSet<u32> = sellers.iter().map(|row| row.seller).collect();
            positions.extend(sellers.iter().map(|row| (row.seller, row.journal_durable)));
            if !wanted.iter().all(|seller| positions.contains_key(seller)) {
                return Err(self.unexpected("the seller is not in these books"));
            }
            let is_reported = |row: &SellerRow| row.journal_acknowledged >= row.journal_durable;
            let here_done = sellers.iter().filter(|row| wanted.contains(&row.seller)).all(is_reported);
            // Sellers that are other processes report at least once a second.
            let elsewhere: BTreeMap<u32, u64> =
                wanted.difference(&here).map(|seller| (*seller, positions[seller])).collect();
            if archived != elsewhere {
                (archived, archived_at) = (elsewhere, Instant::now());
            }
            if here_done && (archived.is_empty() || archived_at.elapsed() > REPORTED_WITHIN) {
                let Reply::Varieties { varieties: rows } = self.ask("list_varieties")? else {
                    return Err(self.unexpected("no varieties"));
                };
                let shelf = |status: StatusRow| {
                    let unsold = status.hub + status.in_transfer + status.at_seller;
                    let row = rows.iter().find(|row| row.code == status.code)?;
                    let variety = Variety { product: row.product, face_value: row.face_value };
                    Some((status.code, Shelf { id: row.id, variety, unsold }))
                };
                let stock = varieties.into_iter().filter_map(shelf).collect();
                return Ok(Standing { stock, positions });
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

    /// Shows every fact about a seller's sequences from a journal position on, of `terminals` only if there are any.
    ///
    /// # Errors
    /// [`BooksError`].
    pub(crate) fn sequences(
        &self,
        seller: u32,
        since: u64,
        terminals: &[u64],
        mut take: impl FnMut(&SequenceFact),
    ) -> Result<(), BooksError> {
        let want = serde_json::json!({
            "want": "sequences", "seller": seller, "since": since, "terminals": terminals,
        });
        let mut seen = 0;
        let reply = self.ask_in_parts(&want, |rows| {
            seen += rows.len() as u64;
            rows.iter().for_each(&mut take);
        })?;
        match reply {
            Reply::SequencesEnd { rows } if rows == seen => Ok(()),
            _ => Err(self.unexpected("not all sequences")),
        }
    }

    fn ask(&self, want: &str) -> Result<Reply, BooksError> {
        self.ask_in_parts(&serde_json::json!({ "want": want }), |_| {})
    }

    fn ask_in_parts(
        &self,
        want: &serde_json::Value,
        mut hear: impl FnMut(&[SequenceFact]),
    ) -> Result<Reply, BooksError> {
        let failed = |source| BooksError { socket: self.socket.clone(), source };
        let asked = UnixStream::connect(&self.socket).and_then(|mut stream| {
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            writeln!(stream, "{want}")?;
            let mut lines = BufReader::with_capacity(LINE_BYTES, stream);
            let mut line = String::new();
            loop {
                line.clear();
                if lines.read_line(&mut line)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                match serde_json::from_str(&line)? {
                    Reply::Progress => {}
                    Reply::Sequences { rows } => hear(&rows),
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

#[derive(Debug, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
enum Reply {
    Progress,
    Status { hub: Option<HubRow>, sellers: Vec<SellerRow>, varieties: Vec<StatusRow> },
    Varieties { varieties: Vec<VarietyRow> },
    Audit { balanced: bool, text: String },
    Sequences { rows: Vec<SequenceFact> },
    SequencesEnd { rows: u64 },
    No { reason: String },
}

#[derive(Debug, Deserialize)]
struct HubRow {
    nodes: Vec<NodeRow>,
}

#[derive(Debug, Deserialize)]
struct NodeRow {
    seller: u32,
    journal_acknowledged: u64,
}

#[derive(Debug, Deserialize)]
struct SellerRow {
    seller: u32,
    journal_durable: u64,
    journal_acknowledged: u64,
}

#[derive(Debug, Deserialize)]
struct StatusRow {
    code: String,
    hub: u64,
    in_transfer: u64,
    at_seller: u64,
}

#[derive(Debug, Deserialize)]
struct VarietyRow {
    id: u32,
    code: String,
    product: u32,
    face_value: u64,
}

const SOCKET_FILE: &str = "pinwheel.sock";
/// What a seller elsewhere has sold is in the archive after so long.
const REPORTED_WITHIN: Duration = Duration::from_millis(1500);
const SETTLE_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// About one line of many sequences.
const LINE_BYTES: usize = 256 << 10;
