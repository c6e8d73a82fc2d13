//! Tills that sell without pause and remember what they were told, whatever happens to the network.

use super::process::{PATIENCE, Process};
use super::till::{Lost, Till};
use engine::admin::KeyRow;
use engine::disk::lock::DirLock;
use engine::disk::mapped::MappedDisk;
use engine::journal::JournalOptions;
use engine::journal::record::VendName;
use engine::ledger::Bookkeeper;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use wire::control::ByeReason;
use wire::message::{
    Attempt, DeclineReason, KeyEpoch, RefuseReason, Reply, Request, SequenceState, TerminalId,
};

/// One thread for each till.
pub(crate) struct Load {
    address: Arc<Mutex<SocketAddr>>,
    over: Arc<AtomicBool>,
    tills: Vec<JoinHandle<Told>>,
}

impl Load {
    /// Each of these terminals buys one variety, again and again.
    pub(crate) fn start(network: &Process, keys: &[KeyRow], of: (u32, u64)) -> Self {
        Self::start_paced(network, keys, of, Duration::ZERO)
    }

    /// The same with a rest after each sale, so that what there is lasts.
    pub(crate) fn start_paced(network: &Process, keys: &[KeyRow], of: (u32, u64), rest: Duration) -> Self {
        let address = Arc::new(Mutex::new(network.address));
        let over = Arc::new(AtomicBool::new(false));
        let till = |key: KeyRow| {
            let (address, over) = (address.clone(), over.clone());
            thread::spawn(move || run_till(&key, &address, &over, of, rest))
        };
        let tills = keys.iter().cloned().map(till).collect();
        Self { address, over, tills }
    }

    /// The network was started again.
    pub(crate) fn moved_to(&self, network: &Process) {
        *self.address.lock().unwrap() = network.address;
    }

    /// Ends when every till has an answer to its last question.
    pub(crate) fn finish(self) -> Vec<Told> {
        self.over.store(true, Ordering::Relaxed);
        self.tills.into_iter().map(|till| till.join().unwrap()).collect()
    }
}

/// What a till was told and must hold for ever.
#[derive(Default)]
pub(crate) struct Told {
    /// PIN and reference by sequence.
    pub(crate) sold: HashMap<u64, (Vec<u8>, u64)>,
    /// The sequence in hand, stored before it is sent; 0: none.
    asking: u64,
    /// The highest sequence used.
    used: u64,
    /// Sold and not confirmed yet.
    unconfirmed: Option<u64>,
}

fn run_till(
    key: &KeyRow,
    address: &Mutex<SocketAddr>,
    over: &AtomicBool,
    of: (u32, u64),
    rest: Duration,
) -> Told {
    let mut told = Told::default();
    let mut till: Option<Till> = None;
    while !over.load(Ordering::Relaxed) || told.asking != 0 {
        let Some(connected) = &mut till else {
            let to = *address.lock().unwrap();
            till = Till::connect(to, key, PATIENCE).ok();
            if let Some(connected) = &till {
                let highest = told.sold.keys().max().copied().unwrap_or(0);
                assert!(connected.welcome.next_sequence > highest, "law 2: sequence {highest} is forgotten");
            } else {
                thread::sleep(Duration::from_millis(5));
            }
            continue;
        };
        till = match step(connected, &mut told, of) {
            Ok(()) => {
                thread::sleep(rest);
                continue;
            }
            // The connection stays, the session does not.
            Err(Lost::Bye(bye)) if bye.reason == ByeReason::Renew => till.and_then(|till| {
                thread::sleep(Duration::from_millis(u64::from(bye.wait_ms) * 3 / 2));
                Till::log_in(till.stream, key, PATIENCE).ok()
            }),
            Err(_) => None,
        };
    }
    told
}

/// One vend of a till, repeated if it may have been sent before; every other one is confirmed by the next.
fn step(till: &mut Till, told: &mut Told, of: (u32, u64)) -> Result<(), Lost> {
    let attempt = if told.asking == 0 {
        told.used += 1;
        told.asking = told.used;
        Attempt::First
    } else {
        Attempt::Repeat
    };
    let sequence = told.asking;
    let confirmed =
        told.unconfirmed.map_or(0, |unconfirmed| 1u64.unbounded_shl((sequence - 1 - unconfirmed) as u32));
    match till.vend(attempt, sequence, of, confirmed)? {
        Reply::Sold(sold) => {
            assert_eq!(sold.sequence, sequence);
            let answer = (sold.pin.as_bytes().to_vec(), sold.reference);
            assert!(told.sold.insert(sequence, answer.clone()).is_none());
            told.unconfirmed = Some(sequence);
            told.asking = 0;
            // The same question again, at once: the same answer.
            if sequence.is_multiple_of(7) {
                match till.vend(Attempt::Repeat, sequence, of, 0)? {
                    Reply::Sold(again) => {
                        assert_eq!((again.pin.as_bytes().to_vec(), again.reference), answer, "law 4");
                    }
                    other => panic!("law 4: {other:?}"),
                }
            }
        }
        Reply::Later { .. } => thread::sleep(Duration::from_millis(2)),
        // The tills sold faster than stock came in.
        Reply::Declined { reason: DeclineReason::OutOfStock, .. } => {
            told.asking = 0;
            thread::sleep(Duration::from_millis(2));
        }
        other => panic!("sequence {sequence}: {other:?}"),
    }
    Ok(())
}

/// The running network still gives the same answers.
pub(crate) fn check_live(network: &Process, keys: &[KeyRow], told: &[Told], of: (u32, u64)) {
    for (key, told) in keys.iter().zip(told) {
        let mut till = network.till(key);
        for (&sequence, (pin, reference)) in &told.sold {
            let first = till.vend(Attempt::First, sequence, of, 0).unwrap();
            let refused = matches!(
                first,
                Reply::Refused { reason: RefuseReason::SequenceUsed | RefuseReason::Closed, .. }
            );
            assert!(refused, "law 4: a first on used sequence {sequence} got {first:?}");
            match till.vend(Attempt::Repeat, sequence, of, 0).unwrap() {
                Reply::Sold(sold) => {
                    assert_eq!((sold.pin.as_bytes(), sold.reference), (&pin[..], *reference));
                }
                Reply::Refused { reason: RefuseReason::Closed, .. } => {
                    let state = till.state(&Request::Status { sequence }).unwrap();
                    assert_eq!(state, SequenceState::Confirmed, "law 2: sequence {sequence}");
                }
                other => panic!("law 4: sequence {sequence}: {other:?}"),
            }
        }
    }
}

/// The files of a seller alone say the same, read without the program that wrote them running. `segment_bytes` is the journal's.
pub(crate) fn check_books(seller: &Path, segment_bytes: u64, keys: &[KeyRow], told: &[Told]) {
    let lock = DirLock::acquire(seller.to_owned()).unwrap();
    let disk = Arc::new(MappedDisk::open(&lock, "").unwrap());
    let (mut books, _journal) =
        Bookkeeper::recover(disk, JournalOptions::with_segment_bytes(segment_bytes), u64::MAX).unwrap();
    let mut buyers = HashMap::new();
    for (key, told) in keys.iter().zip(told) {
        for (&sequence, (_, reference)) in &told.sold {
            let (terminal, key_epoch) = (TerminalId(key.terminal), KeyEpoch(key.key_epoch));
            let vend = VendName { terminal, key_epoch, sequence };
            let outcome = books.find(vend).unwrap_or_else(|| panic!("law 2: {vend:?} is forgotten"));
            assert_eq!(outcome.pin.map(|pin| pin.0), Some(*reference), "law 2: {vend:?}");
            let earlier = buyers.insert(*reference, vend);
            assert!(earlier.is_none(), "law 1: PIN {reference:#x} was sold to {earlier:?} and {vend:?}");
        }
    }
}
