//! The blocking terminal against a seller that fails in every way a seller may.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wire::client::{Client, ClientError, Config, FileStore, MemoryStore, SaleId, SaleState, Store, Vended};
use wire::control::{self, Bye, ByeReason, ErrorCode};
use wire::frame::FRAME_BYTES_MAX;
use wire::message::*;
use wire::session::{Acceptor, Inbound};

use crate::support::*;

const TIME: Duration = Duration::from_secs(20);
const SELLER: SellerId = SellerId(7);

/// What the seller does with its next request after the login.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Act {
    Answer,
    /// Closes before it did anything.
    Lose,
    /// Does it and closes without an answer.
    LoseAnswer,
    Later,
    Bye,
    /// Ends the session and not the connection.
    Renew,
    /// Pings first and answers after the pong.
    Ping,
}

/// A seller in memory; its sequences outlive connections.
#[derive(Default)]
struct Seller {
    sequences: BTreeMap<u64, SequenceState>,
    script: VecDeque<Act>,
    vends: Vec<Vend>,
    logins: Vec<Login>,
    id: u32,
    connections: usize,
    /// Where else its welcomes send terminals.
    others: Addresses,
}

impl Seller {
    fn next_sequence(&self) -> u64 {
        self.sequences.keys().next_back().map_or(1, |top| top + 1)
    }

    fn state(&self, sequence: u64) -> SequenceState {
        self.sequences.get(&sequence).copied().unwrap_or(SequenceState::Open)
    }

    fn answer(&mut self, request: &Request) -> Reply {
        match *request {
            Request::Login(ref login) => {
                self.logins.push(**login);
                let mut resolved = Resolved { count: login.count, ..Resolved::EMPTY };
                for (outcome, &(seller, sequence)) in resolved.outcomes.iter_mut().zip(login.pairs()) {
                    let own = seller == SellerId(self.id);
                    let state = if own { self.state(sequence) } else { SequenceState::InDoubt };
                    *outcome = Outcome { seller, sequence, state, reference: 0 };
                }
                Reply::Resolved(Box::new(resolved))
            }
            Request::Vend(vend) => {
                self.vends.push(vend);
                for distance in (0..64).filter(|distance| vend.confirmed & 1 << distance != 0) {
                    self.settle(vend.sequence - 1 - distance, SequenceState::Confirmed);
                }
                let sequence = vend.sequence;
                let used = self.state(sequence) != SequenceState::Open;
                if used && vend.attempt == Attempt::First {
                    return Reply::Refused { sequence, reason: RefuseReason::SequenceUsed };
                }
                if vend.product == 404 {
                    self.sequences.insert(sequence, SequenceState::Declined);
                    return Reply::Declined { sequence, reason: DeclineReason::NoSuchVariety };
                }
                if self.state(sequence) == SequenceState::Blocked {
                    return Reply::Declined { sequence, reason: DeclineReason::Blocked };
                }
                if self.state(sequence) == SequenceState::Voided {
                    return Reply::State { sequence, state: SequenceState::Voided, reference: 0 };
                }
                self.sequences.entry(sequence).or_insert(SequenceState::Sold);
                sold(sequence, 0)
            }
            Request::Confirm { sequence } => self.settle(sequence, SequenceState::Confirmed),
            Request::Void { sequence } => self.settle(sequence, SequenceState::Voided),
            Request::Status { sequence } => {
                Reply::State { sequence, state: self.state(sequence), reference: 0 }
            }
            Request::Reprint { sequence } => sold(sequence, 1),
            // The other seller cannot be asked.
            Request::Settle(Settle { seller, sequence, .. }) => {
                let (state, sealed) = (SequenceState::InDoubt, wire::settlement::SoldBox::NONE);
                Reply::Settled(Box::new(Settled { seller, sequence, state, reference: 0, sealed }))
            }
            Request::Catalogue { from } => {
                let entry = CatalogueEntry { product: u32::from(from), ..CatalogueEntry::EMPTY };
                let count = if from == 4 { 1 } else { 2 };
                Reply::Catalogue(Box::new(CataloguePage {
                    version: 1,
                    total: 5,
                    from,
                    count,
                    entries: [entry; 2],
                }))
                .trimmed()
            }
        }
    }

    fn settle(&mut self, sequence: u64, to: SequenceState) -> Reply {
        let state = match self.state(sequence) {
            SequenceState::Sold => to,
            SequenceState::Open if to == SequenceState::Voided => SequenceState::Blocked,
            state => state,
        };
        self.sequences.insert(sequence, state);
        Reply::State { sequence, state, reference: 0 }
    }
}

trait Trimmed {
    fn trimmed(self) -> Self;
}

impl Trimmed for Reply {
    /// Places of a page beyond its count are not sent.
    fn trimmed(mut self) -> Self {
        if let Reply::Catalogue(page) = &mut self {
            page.entries[usize::from(page.count)..].fill(CatalogueEntry::EMPTY);
        }
        self
    }
}

fn sold(sequence: u64, copy: u16) -> Reply {
    let pin = Text::new(std::format!("PIN{sequence}").as_bytes()).unwrap();
    let serial = Text::new(std::format!("S{sequence}").as_bytes()).unwrap();
    Reply::Sold(Sold { sequence, reference: sequence, copy, expiry: 20_301_231, pin, serial })
}

/// Starts a seller; it lives as long as the test.
fn start(id: u32, script: &[Act]) -> (SocketAddr, Arc<Mutex<Seller>>) {
    let seller = Seller { script: script.iter().copied().collect(), id, ..Seller::default() };
    let seller = Arc::new(Mutex::new(seller));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = seller.clone();
    std::thread::spawn(move || {
        for (n, stream) in (1..).zip(listener.incoming()) {
            shared.lock().unwrap().connections += 1;
            let mut stream = stream.unwrap();
            while serve(&mut stream, n, &shared).is_some() {}
        }
    });
    (address, seller)
}

/// Serves one session until one side ends it; nothing if that ends the connection.
fn serve(stream: &mut TcpStream, n: u8, seller: &Mutex<Seller>) -> Option<()> {
    let acceptor = Acceptor::new(true);
    let mut out = [0; FRAME_BYTES_MAX];
    let mut buffer = Vec::new();
    let hello = loop {
        if let Some((consumed, hello)) = acceptor.hello(&buffer).ok()? {
            buffer.drain(..consumed);
            break hello;
        }
        read(stream, &mut buffer)?;
    };
    let Ok((mut session, length)) = acceptor.accept(&hello, &KEY, &[n; 32], &mut out) else {
        let length = control::encode_error(ErrorCode::Authentication, &mut out);
        stream.write_all(&out[..length]).ok()?;
        return None;
    };
    stream.write_all(&out[..length]).ok()?;
    let welcome = {
        let seller = seller.lock().unwrap();
        let next_sequence = seller.next_sequence();
        let open = (1..next_sequence).find(|sequence| !seller.state(*sequence).is_final());
        let Reply::Welcome(welcome) = welcome() else { unreachable!() };
        Reply::Welcome(Box::new(Welcome {
            seller: SellerId(seller.id),
            next_sequence,
            window_base: open.unwrap_or(next_sequence),
            back_off_min_ms: 1,
            back_off_max_ms: 5,
            addresses: seller.others,
            ..*welcome
        }))
    };
    let length = session.send(0, &welcome, &mut out);
    stream.write_all(&out[..length]).ok()?;
    let mut held: Option<(u16, Request)> = None;
    loop {
        let Some((consumed, inbound)) = session.receive(&mut buffer).ok()? else {
            read(stream, &mut buffer)?;
            continue;
        };
        buffer.drain(..consumed);
        let (correlation, request, act) = match inbound {
            Inbound::Request { correlation, request: request @ Request::Login(_) } => {
                (correlation, request, Act::Answer)
            }
            Inbound::Request { correlation, request } => {
                (correlation, request, seller.lock().unwrap().script.pop_front().unwrap_or(Act::Answer))
            }
            Inbound::Pong { correlation } => {
                assert_eq!(correlation, 77);
                let (correlation, request) = held.take()?;
                (correlation, request, Act::Answer)
            }
            Inbound::Ping { .. } | Inbound::Bye(_) | Inbound::Error(_) => return None,
        };
        let length = match act {
            Act::Answer => session.send(correlation, &seller.lock().unwrap().answer(&request), &mut out),
            Act::Lose => return None,
            Act::LoseAnswer => {
                seller.lock().unwrap().answer(&request);
                return None;
            }
            Act::Later => {
                let Request::Vend(vend) = request else { panic!("only vends are put off") };
                seller.lock().unwrap().vends.push(vend);
                let reason = LaterReason::Stock;
                let later = Reply::Later { sequence: vend.sequence, reason, wait_ms: 1, reference: 0 };
                session.send(correlation, &later, &mut out)
            }
            Act::Bye => {
                let bye = Bye { reason: ByeReason::Stopping, wait_ms: 1, addresses: Addresses::default() };
                let length = control::encode_bye(&bye, &mut out);
                stream.write_all(&out[..length]).ok()?;
                return None;
            }
            Act::Renew => {
                let bye = Bye { reason: ByeReason::Renew, wait_ms: 1, addresses: Addresses::default() };
                let length = control::encode_bye(&bye, &mut out);
                return stream.write_all(&out[..length]).ok();
            }
            Act::Ping => {
                held = Some((correlation, request));
                control::encode_ping(77, &mut out)
            }
        };
        stream.write_all(&out[..length]).ok()?;
    }
}

fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 512];
    let read = stream.read(&mut bytes).ok()?;
    buffer.extend(&bytes[..read]);
    (read > 0).then_some(())
}

fn client(address: SocketAddr) -> Client<MemoryStore> {
    Client::new(Config::new(address, TERMINAL, EPOCH, KEY), MemoryStore::default()).unwrap()
}

fn id(sequence: u64) -> SaleId {
    SaleId { seller: SELLER, sequence }
}

fn assert_sold(vended: &Vended, sequence: u64) {
    let Vended::Sold(sale, sold) = vended else { panic!("{vended:?}") };
    assert_eq!((sale.sequence, sold.sequence), (sequence, sequence));
    assert_eq!(sold.pin.as_bytes(), std::format!("PIN{sequence}").as_bytes());
}

#[test]
fn a_terminal_buys_confirms_and_asks() {
    let (address, seller) = start(SELLER.0, &[]);
    for (suite, mode) in VARIANTS {
        let config = Config { suite, mode, ..Config::new(address, TERMINAL, EPOCH, KEY) };
        let mut client = Client::new(config, MemoryStore::default()).unwrap();
        let first = seller.lock().unwrap().next_sequence();
        assert_eq!(client.connect(TIME).unwrap().next_sequence, first);
        assert_sold(&client.vend(1, 500, TIME).unwrap(), first);
        assert_eq!(client.unresolved()[0].state, SaleState::Asked);
        assert_eq!(client.confirm(id(first), TIME).unwrap(), Some(SequenceState::Confirmed));
        assert_eq!(client.unresolved(), []);
        assert_sold(&client.vend(1, 500, TIME).unwrap(), first + 1);
        assert_eq!(client.void(id(first + 1), TIME).unwrap(), Some(SequenceState::Voided));
        assert_eq!(client.status(id(first), TIME).unwrap().0, SequenceState::Confirmed);
        assert_eq!(client.reprint(id(first), TIME).unwrap().copy, 1);
        assert!(matches!(
            client.vend(404, 1, TIME).unwrap(),
            Vended::Declined(_, DeclineReason::NoSuchVariety)
        ));
        assert_eq!(client.unresolved(), []);
        let products: Vec<_> = client.catalogue(TIME).unwrap().iter().map(|entry| entry.product).collect();
        assert_eq!(products, [0, 0, 2, 2, 4]);
        client.ping();
        client.close();
    }
}

#[test]
fn what_may_have_been_sent_is_repeated_and_sold_once() {
    use Act::{Answer, Bye, Later, Lose, LoseAnswer, Ping};
    let (address, seller) = start(SELLER.0, &[Lose, LoseAnswer, Later, Bye, LoseAnswer, Ping, Answer]);
    let mut client = client(address);
    assert_sold(&client.vend(1, 500, TIME).unwrap(), 1);
    let seller = seller.lock().unwrap();
    let attempts: Vec<_> = seller.vends.iter().map(|vend| (vend.sequence, vend.attempt)).collect();
    assert!(attempts.len() >= 4, "{attempts:?}");
    assert!(attempts.iter().all(|attempt| *attempt == (1, Attempt::Repeat)), "the only `first` was lost");
    assert!(seller.logins[1..].iter().all(|login| login.pairs() == [(SELLER, 1)]));
    assert_eq!(seller.sequences.len(), 1);
}

#[test]
fn a_renewed_session_goes_on_over_the_same_connection() {
    use Act::{Answer, Renew};
    let (address, seller) = start(SELLER.0, &[Renew, Renew, Answer, Answer, Renew]);
    let mut client = client(address);
    assert_sold(&client.vend(1, 500, TIME).unwrap(), 1);
    assert_eq!(client.confirm(id(1), TIME).unwrap(), Some(SequenceState::Confirmed));
    assert_sold(&client.vend(1, 500, TIME).unwrap(), 2);
    let seller = seller.lock().unwrap();
    assert_eq!((seller.connections, seller.logins.len()), (1, 4));
}

#[test]
fn a_terminal_that_loses_power_repeats_its_sale_from_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("terminal");
    let (address, seller) = start(SELLER.0, &[Act::LoseAnswer]);
    let open = || Client::new(Config::new(address, TERMINAL, EPOCH, KEY), FileStore::new(&path)).unwrap();
    let short =
        Config { reply_timeout: Duration::from_millis(1), ..Config::new(address, TERMINAL, EPOCH, KEY) };
    let mut first = Client::new(short, FileStore::new(&path)).unwrap();
    first.connect(TIME).unwrap();
    assert_eq!(first.vend(3, 700, Duration::from_millis(1)).unwrap(), Vended::Unresolved(id(1), None));
    drop(first);
    let mut second = open();
    assert_eq!((second.unresolved()[0].product, second.unresolved()[0].face_value), (3, 700));
    assert_sold(&second.repeat(id(1), TIME).unwrap(), 1);
    drop(second);
    assert_eq!(open().confirm(id(1), TIME).unwrap(), Some(SequenceState::Confirmed));
    assert_eq!(FileStore::new(&path).load().unwrap().unwrap().sales, []);
    assert_eq!(seller.lock().unwrap().sequences.len(), 1);
}

#[test]
fn a_repeat_of_a_voided_sale_is_final_and_brings_no_pin() {
    let (address, seller) = start(SELLER.0, &[]);
    let mut client = client(address);
    assert_sold(&client.vend(1, 500, TIME).unwrap(), 1);
    seller.lock().unwrap().sequences.insert(1, SequenceState::Voided);
    let again = client.repeat(id(1), TIME).unwrap();
    assert_eq!(again, Vended::Final(id(1), SequenceState::Voided));
    assert_eq!(client.unresolved(), []);
}

#[test]
fn a_wiped_terminal_voids_what_it_does_not_know_and_sells_on() {
    let (address, seller) = start(SELLER.0, &[]);
    let mut before = client(address);
    for sequence in 1..=3 {
        assert_sold(&before.vend(1, 500, TIME).unwrap(), sequence);
    }
    before.confirm(id(2), TIME).unwrap();
    before.close();
    let mut wiped = client(address);
    assert_sold(&wiped.vend(1, 500, TIME).unwrap(), 4);
    let sequences = seller.lock().unwrap().sequences.clone();
    use SequenceState::{Confirmed, Sold, Voided};
    assert_eq!(sequences, BTreeMap::from([(1, Voided), (2, Confirmed), (3, Voided), (4, Sold)]));
}

#[test]
fn printed_sales_are_confirmed_by_the_next_vend() {
    let (address, seller) = start(SELLER.0, &[Act::Answer, Act::Answer, Act::Answer]);
    let mut client = client(address);
    for sequence in 1..=3 {
        assert_sold(&client.vend(1, 500, TIME).unwrap(), sequence);
    }
    seller.lock().unwrap().script.extend([Act::Lose; 1]);
    for sequence in [1, 3] {
        client.confirm(id(sequence), Duration::ZERO).unwrap();
    }
    assert_sold(&client.vend(1, 500, TIME).unwrap(), 4);
    assert_eq!(seller.lock().unwrap().vends.last().unwrap().confirmed, 0b101);
    assert_eq!(seller.lock().unwrap().state(3), SequenceState::Confirmed);
    assert_eq!(seller.lock().unwrap().state(2), SequenceState::Sold);
}

#[test]
fn a_sale_of_another_seller_is_carried_and_never_asked_of_this_one() {
    let (first, _) = start(SELLER.0, &[]);
    let (second, other) = start(8, &[]);
    let mut store = MemoryStore::default();
    let mut client = Client::new(Config::new(first, TERMINAL, EPOCH, KEY), store.clone()).unwrap();
    assert_sold(&client.vend(1, 500, TIME).unwrap(), 1);
    let state = wire::client::TerminalState {
        key_epoch: EPOCH,
        sales: client.unresolved().to_vec(),
        ..Default::default()
    };
    store.save(&state).unwrap();
    let mut moved = Client::new(Config::new(second, TERMINAL, EPOCH, KEY), store).unwrap();
    assert_eq!(moved.repeat(id(1), TIME).unwrap(), Vended::Unresolved(id(1), None));
    assert!(matches!(moved.status(id(1), TIME), Err(ClientError::OtherSeller { .. })));
    assert_eq!(moved.confirm(id(1), TIME).unwrap(), None);
    assert_sold(&moved.vend(1, 500, TIME).unwrap(), 1);
    let other = other.lock().unwrap();
    assert_eq!(other.logins[0].pairs(), [(SELLER, 1)]);
    assert_eq!(other.vends.len(), 1);
}

#[test]
fn the_addresses_of_the_last_welcome_are_kept_and_tried_when_the_own_one_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (first, named) = start(SELLER.0, &[]);
    let (second, other) = start(SELLER.0, &[]);
    named.lock().unwrap().others = Addresses::of([second]);
    let store = || wire::client::FileStore::new(folder.path().join("till"));
    let mut client = Client::new(Config::new(first, TERMINAL, EPOCH, KEY), store()).unwrap();
    client.connect(TIME).unwrap();
    client.close();
    drop(client);
    // The address that it was given leads nowhere any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = Client::new(Config::new(gone, TERMINAL, EPOCH, KEY), store()).unwrap();
    assert_sold(&client.vend(1, 500, TIME).unwrap(), 1);
    assert_eq!(other.lock().unwrap().vends.len(), 1);
    // That welcome named none: what an earlier one said does not count any more.
    drop(client);
    let kept = wire::client::Store::load(&mut store()).unwrap().unwrap();
    assert_eq!(kept.addresses, []);
}

#[test]
fn a_refused_terminal_does_not_try_again() {
    let (address, _) = start(SELLER.0, &[]);
    let mut client =
        Client::new(Config::new(address, TERMINAL, EPOCH, [1; 32]), MemoryStore::default()).unwrap();
    let refused = client.vend(1, 500, TIME);
    assert!(matches!(refused, Err(ClientError::Rejected(ErrorCode::Authentication))), "{refused:?}");
    assert_eq!(client.unresolved(), []);
}

#[test]
fn an_absent_seller_is_told_and_nothing_is_saved() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = client(address);
    let error = client.vend(1, 500, Duration::from_millis(50));
    assert!(matches!(error, Err(ClientError::Unreachable(_))), "{error:?}");
    assert_eq!(client.unresolved(), []);
}

#[test]
fn no_more_sales_are_left_unresolved_than_a_login_can_carry() {
    let (address, _) = start(SELLER.0, &[]);
    let mut client = client(address);
    for sequence in 1..=16 {
        assert_sold(&client.vend(1, 500, TIME).unwrap(), sequence);
    }
    assert!(matches!(client.vend(1, 500, TIME), Err(ClientError::TooManyUnresolved)));
    client.confirm(id(9), TIME).unwrap();
    assert_sold(&client.vend(1, 500, TIME).unwrap(), 17);
}

#[test]
fn a_new_key_epoch_leaves_old_sales_to_the_operator() {
    let (address, _) = start(SELLER.0, &[]);
    let mut old = client(address);
    assert_sold(&old.vend(1, 500, TIME).unwrap(), 1);
    let mut store = MemoryStore::default();
    let state = wire::client::TerminalState {
        key_epoch: EPOCH,
        sales: old.unresolved().to_vec(),
        ..Default::default()
    };
    store.save(&state).unwrap();
    let new = Client::new(Config::new(address, TERMINAL, KeyEpoch(EPOCH.0 + 1), KEY), store).unwrap();
    assert_eq!(new.dropped()[0].id, id(1));
    assert_eq!(new.unresolved(), []);
}
