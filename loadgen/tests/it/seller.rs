//! A small seller on `wire::session`: a thread per connection, everything in memory. It can be told to do wrong.

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use wire::control::{Bye, ByeReason, CONTROL_BYTES_MAX, encode_bye, encode_error, encode_pong};
use wire::frame::{FRAME_BYTES_MAX, HEADER_BYTES, Kind, REPLY_BYTES_MAX};
use wire::message::*;
use wire::session::{Acceptor, HANDSHAKE_BYTES, HELLO_BYTES, Inbound, SellerSession};

/// What a seller does wrong, once, at its hundredth sale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Sells a PIN that it sold before.
    SellsTwice,
    /// Gives a sale's PIN to the next and the next one's to it.
    SwapsReplies,
    /// Gives a PIN of another variety.
    OtherVariety,
    /// Answers, and forgets the sale.
    Forgets,
    /// Does not answer, and gives another PIN to the repeat.
    AnotherPinOnRepeat,
    /// Ends the session in the place of an answer, and not the connection.
    Renews,
    /// Closes every connection.
    Hangs,
    /// Says later a few times.
    Later,
    /// Has nothing left from then on.
    RunsOut,
    /// Lets one terminal wait for its welcome, from the beginning.
    WelcomesOneLate,
}

/// A seller on a port of its own.
pub(crate) struct Seller {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    sales: u64,
    next_reference: [u64; VARIETIES.len()],
    terminals: HashMap<u64, HashMap<u64, Entry>>,
    logged_in: HashSet<u64>,
    /// How many terminals had logged in when the first vend came.
    logged_in_first: Option<usize>,
    /// The sale whose answer waits to be swapped.
    held: Option<Sold>,
    laters: u64,
    /// The session at hand is to be renewed.
    renew: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sold: Option<Sold>,
    variety: usize,
    state: SequenceState,
}

impl Seller {
    pub(crate) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            fault,
            sales: 0,
            next_reference: [1 << 16, 2 << 16],
            terminals: HashMap::new(),
            logged_in: HashSet::new(),
            logged_in_first: None,
            held: None,
            laters: 0,
            renew: false,
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    while serve(&mut stream, &shared).is_some() {}
                });
            }
        });
        Self { address, state }
    }

    /// PINs sold.
    pub(crate) fn sales(&self) -> u64 {
        self.state.lock().unwrap().sales
    }

    /// Terminals that had logged in when the first vend came.
    pub(crate) fn logged_in_first(&self) -> Option<usize> {
        self.state.lock().unwrap().logged_in_first
    }

    /// PINs sold and neither confirmed nor voided.
    pub(crate) fn unconfirmed(&self) -> usize {
        let state = self.state.lock().unwrap();
        let entries = state.terminals.values().flat_map(HashMap::values);
        entries.filter(|entry| entry.state == SequenceState::Sold).count()
    }
}

/// Writes a file of terminals whose keys the seller knows.
pub(crate) fn terminals(folder: &Path, count: u64) -> PathBuf {
    let path = folder.join("terminals.csv");
    let lines = (1..=count).map(|id| format!("{id},1,{}\n", format!("{:02x}", key(id)[0]).repeat(32)));
    let text: String = std::iter::once("terminal,key_epoch,key\n".to_owned()).chain(lines).collect();
    std::fs::write(&path, text).unwrap();
    path
}

/// Who waits for its welcome, and how long: several times what a run takes from its last welcome to its first vend.
const LATE: u64 = 2;
const LATE_FOR: Duration = Duration::from_millis(300);

fn key(id: u64) -> [u8; 32] {
    [(id % 251) as u8; 32]
}

/// Serves one session; nothing if its end is the connection's.
fn serve(stream: &mut TcpStream, state: &Mutex<State>) -> Option<()> {
    let hello = read_hello(stream)?;
    let acceptor = Acceptor::new(true);
    let (_, hello) = acceptor.hello(&hello).ok()??;
    let mut random = [0; 32];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    let mut frame = [0; HANDSHAKE_BYTES];
    let (mut session, length) = match acceptor.accept(&hello, &key(hello.terminal.0), &random, &mut frame) {
        Ok(accepted) => accepted,
        Err(error) => {
            let mut frame = [0; CONTROL_BYTES_MAX];
            let length = encode_error(error.code(), &mut frame);
            stream.write_all(&frame[..length]).ok()?;
            return None;
        }
    };
    stream.write_all(&frame[..length]).ok()?;
    let terminal = hello.terminal.0;
    if terminal == LATE && state.lock().unwrap().fault == Fault::WelcomesOneLate {
        thread::sleep(LATE_FOR);
    }
    let mut out = Vec::new();
    put(&mut session, 0, &welcome(&mut state.lock().unwrap(), terminal), &mut out);
    let (mut buffer, mut end) = ([0; 16 * FRAME_BYTES_MAX], 0);
    loop {
        stream.write_all(&out).ok()?;
        out.clear();
        let read = stream.read(&mut buffer[end..]).ok().filter(|read| *read > 0)?;
        end += read;
        let mut at = 0;
        while let Some((length, inbound)) = session.receive(&mut buffer[at..end]).ok()? {
            at += length;
            match inbound {
                Inbound::Request { correlation, request } => {
                    let mut state = state.lock().unwrap();
                    for reply in answer(&mut state, terminal, &request)? {
                        put(&mut session, correlation, &reply, &mut out);
                    }
                    if std::mem::take(&mut state.renew) {
                        let bye =
                            Bye { reason: ByeReason::Renew, wait_ms: 5, addresses: Addresses::default() };
                        let mut frame = [0; CONTROL_BYTES_MAX];
                        let length = encode_bye(&bye, &mut frame);
                        out.extend_from_slice(&frame[..length]);
                        return stream.write_all(&out).ok();
                    }
                }
                Inbound::Ping { correlation } => {
                    let mut frame = [0; CONTROL_BYTES_MAX];
                    let length = encode_pong(correlation, &mut frame);
                    out.extend_from_slice(&frame[..length]);
                }
                Inbound::Pong { .. } => {}
                Inbound::Bye(_) | Inbound::Error(_) => return None,
            }
        }
        buffer.copy_within(at..end, 0);
        end -= at;
    }
}

/// The next hello; what is left of an earlier session is dropped.
fn read_hello(stream: &mut TcpStream) -> Option<[u8; HELLO_BYTES]> {
    loop {
        let mut frame = [0; FRAME_BYTES_MAX];
        stream.read_exact(&mut frame[..HEADER_BYTES]).ok()?;
        let length = usize::from(u16::from_le_bytes([frame[0], frame[1]]));
        stream.read_exact(frame.get_mut(HEADER_BYTES..length)?).ok()?;
        if frame[2] == Kind::Hello as u8 {
            return frame.first_chunk().copied();
        }
    }
}

fn put(session: &mut SellerSession, correlation: u16, reply: &Reply, out: &mut Vec<u8>) {
    let mut frame = [0; REPLY_BYTES_MAX];
    let length = session.send(correlation, reply, &mut frame);
    out.extend_from_slice(&frame[..length]);
}

fn welcome(state: &mut State, terminal: u64) -> Reply {
    let entries = state.terminals.entry(terminal).or_default();
    let next_sequence = entries.keys().max().map_or(1, |top| top + 1);
    let is_open = |sequence: &u64| entries.get(sequence).is_none_or(|entry| !entry.state.is_final());
    let window_base =
        (next_sequence.saturating_sub(64).max(1)..next_sequence).find(is_open).unwrap_or(next_sequence);
    Reply::Welcome(Box::new(Welcome {
        seller: SellerId(1),
        key_epoch: KeyEpoch(1),
        next_sequence,
        window_base,
        window: 64,
        ping_interval_s: 60,
        back_off_min_ms: 20,
        back_off_max_ms: 200,
        catalogue_version: 1,
        addresses: Addresses::default(),
    }))
}

/// The replies to a request, of which some faults make none; `None`: the connection breaks.
fn answer(state: &mut State, terminal: u64, request: &Request) -> Option<Vec<Reply>> {
    let state_of = |state: &State, sequence: u64| match state.terminals[&terminal].get(&sequence) {
        Some(entry) => {
            let reference = entry.sold.map_or(0, |sold| sold.reference);
            Reply::State { sequence, state: entry.state, reference }
        }
        None => Reply::Refused { sequence, reason: RefuseReason::NothingSold },
    };
    Some(vec![match request {
        Request::Login(_) => {
            state.logged_in.insert(terminal);
            Reply::Resolved(Box::new(Resolved::EMPTY))
        }
        Request::Catalogue { from } => catalogue(*from),
        Request::Vend(asked) => return vend(state, terminal, asked),
        Request::Confirm { sequence } => {
            confirm(state, terminal, *sequence);
            state_of(state, *sequence)
        }
        Request::Void { sequence } => {
            let blocked = Entry { sold: None, variety: 0, state: SequenceState::Blocked };
            let entry = state.terminals.entry(terminal).or_default().entry(*sequence).or_insert(blocked);
            if entry.state == SequenceState::Sold {
                entry.state = SequenceState::Voided;
            }
            state_of(state, *sequence)
        }
        Request::Status { sequence } => state_of(state, *sequence),
        // The load generator asks nobody about other sellers.
        Request::Settle(_) => return None,
        Request::Reprint { sequence } => {
            Reply::Refused { sequence: *sequence, reason: RefuseReason::ReprintLimit }
        }
    }])
}

fn confirm(state: &mut State, terminal: u64, sequence: u64) {
    let entry = state.terminals.entry(terminal).or_default().get_mut(&sequence);
    if let Some(entry) = entry.filter(|entry| entry.state == SequenceState::Sold) {
        entry.state = SequenceState::Confirmed;
    }
}

fn vend(state: &mut State, terminal: u64, asked: &Vend) -> Option<Vec<Reply>> {
    let Vend { sequence, product, face_value, attempt, .. } = *asked;
    state.logged_in_first.get_or_insert(state.logged_in.len());
    for bit in (0..64).filter(|bit| asked.confirmed >> bit & 1 == 1) {
        confirm(state, terminal, sequence.checked_sub(1 + bit).expect("a bit below sequence 1"));
    }
    let entries = state.terminals.entry(terminal).or_default();
    let open =
        entries.iter().filter(|(_, entry)| !entry.state.is_final()).map(|(sequence, _)| *sequence).min();
    if open.is_some_and(|open| sequence > open + 63) {
        return Some(vec![Reply::Refused { sequence, reason: RefuseReason::WindowFull }]);
    }
    let variety = VARIETIES.iter().position(|variety| *variety == (product, face_value)).expect("a variety");
    if let Some(entry) = entries.get(&sequence) {
        let refused = |reason| Some(vec![Reply::Refused { sequence, reason }]);
        if attempt == Attempt::First {
            return refused(RefuseReason::SequenceUsed);
        }
        if entry.variety != variety {
            return refused(RefuseReason::OtherVariety);
        }
        return entry.sold.map(|sold| vec![Reply::Sold(sold)]);
    }
    let due = state.sales == 100;
    if due && state.fault == Fault::Later && state.laters < 3 {
        state.laters += 1;
        return Some(vec![Reply::Later { sequence, reason: LaterReason::Busy, wait_ms: 5, reference: 0 }]);
    }
    if state.sales >= 100 && state.fault == Fault::RunsOut {
        return Some(vec![Reply::Declined { sequence, reason: DeclineReason::OutOfStock }]);
    }
    if due && state.fault == Fault::Hangs {
        state.sales += 1;
        return None;
    }
    let from = if due && state.fault == Fault::OtherVariety { 1 - variety } else { variety };
    if !(due && state.fault == Fault::SellsTwice) {
        state.next_reference[from] += 1;
    }
    let sold = pin(sequence, state.next_reference[from]);
    state.sales += 1;
    if due && state.fault == Fault::AnotherPinOnRepeat {
        return None;
    }
    if due && state.fault == Fault::Forgets {
        return Some(vec![Reply::Sold(sold)]);
    }
    let entry = Entry { sold: Some(sold), variety, state: SequenceState::Sold };
    state.terminals.entry(terminal).or_default().insert(sequence, entry);
    if due && state.fault == Fault::Renews {
        state.renew = true;
        return Some(Vec::new());
    }
    if state.fault == Fault::SwapsReplies && state.sales >= 100 {
        // The first PIN goes to the next sale of the same variety, and its PIN to the one after: whoever gets
        // another's is wrong by the seller's own books.
        if let Some(held) = state.held.filter(|held| held.reference >> 16 == sold.reference >> 16) {
            state.held = None;
            state.fault = Fault::None;
            return Some(vec![Reply::Sold(Sold { sequence, ..held })]);
        }
        if state.held.is_none() {
            state.held = Some(sold);
            return Some(vec![Reply::Sold(pin(sequence, sold.reference + 30_000))]);
        }
    }
    Some(vec![Reply::Sold(sold)])
}

fn pin(sequence: u64, reference: u64) -> Sold {
    let digits = format!("{:016}", reference.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 10_000_000_000_000_000);
    let pin = Pin::new(digits.as_bytes()).unwrap();
    let serial = Serial::new(format!("S{reference:012}").as_bytes()).unwrap();
    Sold { sequence, reference, copy: 0, expiry: 20_291_231, pin, serial }
}

fn catalogue(from: u16) -> Reply {
    let mut entries = [CatalogueEntry::EMPTY; CATALOGUE_ENTRIES_MAX];
    let left = VARIETIES.iter().skip(usize::from(from)).take(CATALOGUE_ENTRIES_MAX);
    let mut count = 0;
    for (entry, (product, face_value)) in entries.iter_mut().zip(left) {
        (entry.product, entry.face_value, entry.available) = (*product, *face_value, true);
        entry.currency = *b"ZAR";
        count += 1;
    }
    let total = VARIETIES.len() as u16;
    Reply::Catalogue(Box::new(CataloguePage { version: 1, total, from, count, entries }))
}

const VARIETIES: [(u32, u64); 2] = [(1001, 1000), (1002, 2500)];
