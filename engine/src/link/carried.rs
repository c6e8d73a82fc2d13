//! Terminals' sessions carried between a host connection manager and a worker of a server. The bytes are in `spec/link.md`.
//!
//! A batch holds what is ready of many sessions, one item behind the other; it travels as one message. Session numbers are
//! chosen by the manager, grow, and are never used twice on a connection, so that nothing can reach a later session that was
//! meant for an earlier one.

use super::NotUnderstood;
use crate::ids::SellerId;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use wire::message::{ADDRESSES_MAX, Addresses};
use wire::session::HELLO_BYTES;

/// The server's first message on a connection that carries sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carrying {
    /// Who sells.
    pub seller: SellerId,
    /// Between how many workers its terminals are spread.
    pub workers: u16,
    /// The worker at the other end.
    pub worker: u16,
}

impl Carrying {
    /// The message's kind.
    pub const KIND: u16 = 0x0200;
    /// Its length.
    pub const BYTES: usize = 8;

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.seller.0.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.workers.to_le_bytes());
        bytes[6..].copy_from_slice(&self.worker.to_le_bytes());
        bytes
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// [`NotUnderstood`]: another length, or a worker that is none of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let Ok([s0, s1, s2, s3, w0, w1, n0, n1]) = <[u8; Self::BYTES]>::try_from(bytes) else {
            return Err(malformed());
        };
        let seller = SellerId(u32::from_le_bytes([s0, s1, s2, s3]));
        let (workers, worker) = (u16::from_le_bytes([w0, w1]), u16::from_le_bytes([n0, n1]));
        if worker >= workers {
            return Err(malformed());
        }
        Ok(Self { seller, workers, worker })
    }
}

/// Where else a manager's terminals may connect, from their side: it goes into their welcomes, which the manager cannot read. Its
/// message may come at any time from version 2 of the link protocol on, and holds for the welcomes that follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Others(pub Addresses);

impl Others {
    /// The message's kind.
    pub const KIND: u16 = 0x0202;
    /// Most bytes of one.
    pub const BYTES_MAX: usize = 4 + ADDRESSES_MAX * ADDRESS_BYTES;

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let entries = self.0.entries();
        let mut bytes = vec![self.0.count, 0, 0, 0];
        for (ip, port) in entries {
            bytes.extend_from_slice(ip);
            bytes.extend_from_slice(&port.to_le_bytes());
        }
        bytes
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// [`NotUnderstood`]: too many, or another length than they have.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let Some((&[count, 0, 0, 0], entries)) = bytes.split_first_chunk() else { return Err(malformed()) };
        if usize::from(count) > ADDRESSES_MAX || entries.len() != usize::from(count) * ADDRESS_BYTES {
            return Err(malformed());
        }
        Ok(Self(Addresses::of(entries.as_chunks().0.iter().map(read_address))))
    }
}

/// One item of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried<'a> {
    /// Whose.
    pub session: u32,
    /// What.
    pub what: CarriedWhat<'a>,
}

/// What an item says of its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CarriedWhat<'a> {
    /// A terminal wants a session. Only from a manager; its number is above all before it.
    Open {
        /// Where the terminal is connected from.
        source: SocketAddr,
        /// Its hello, a whole frame.
        hello: &'a [u8; HELLO_BYTES],
    },
    /// Bytes of frames of the terminal protocol, as they are; not necessarily whole ones.
    Frames(&'a [u8]),
    /// The session is over, after what came before. Nothing is said of it any more.
    End,
}

/// A batch in the making.
#[derive(Debug, Default)]
pub struct CarriedBatch {
    bytes: Vec<u8>,
}

impl CarriedBatch {
    /// The message's kind, in both directions.
    pub const KIND: u16 = 0x0201;
    /// Most bytes of one.
    pub const BYTES_MAX: usize = wire::link::FRAGMENT_BYTES_MAX;

    /// Adds the opening of a session.
    pub fn open(&mut self, session: u32, source: SocketAddr, hello: &[u8; HELLO_BYTES]) {
        self.header(session, OPEN, ADDRESS_BYTES + HELLO_BYTES);
        let ip = match source.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.bytes.extend_from_slice(&ip.octets());
        self.bytes.extend_from_slice(&source.port().to_le_bytes());
        self.bytes.extend_from_slice(hello);
    }

    /// Adds bytes of a session; more than [`CarriedBatch::FRAMES_MAX`] become several items.
    pub fn frames(&mut self, session: u32, bytes: &[u8]) {
        for part in bytes.chunks(Self::FRAMES_MAX) {
            self.header(session, FRAMES, part.len());
            self.bytes.extend_from_slice(part);
        }
    }

    /// Adds the end of a session.
    pub fn end(&mut self, session: u32) {
        self.header(session, END, 0);
    }

    /// Most bytes of frames in one item.
    pub const FRAMES_MAX: usize = 16 * 1024;

    /// How many bytes the batch has. It may be longer than one message; see [`CarriedBatch::messages`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives out the bodies of the messages that it takes, and is empty then.
    pub fn messages(&mut self, mut send: impl FnMut(&[u8])) {
        let mut rest = self.bytes.as_slice();
        while !rest.is_empty() {
            let mut end = 0;
            while end < rest.len() {
                let length = usize::from(u16::from_le_bytes([rest[end + 6], rest[end + 7]]));
                let item_end = end + ITEM_HEADER_BYTES + length;
                if item_end > Self::BYTES_MAX {
                    break;
                }
                end = item_end;
            }
            send(&rest[..end]);
            rest = &rest[end..];
        }
        self.bytes.clear();
        // One burst must not keep its room for ever.
        self.bytes.shrink_to(2 * Self::BYTES_MAX);
    }

    fn header(&mut self, session: u32, what: u8, length: usize) {
        let length = u16::try_from(length).expect("an item is shorter than a message");
        self.bytes.extend_from_slice(&session.to_le_bytes());
        self.bytes.extend_from_slice(&[what, 0]);
        self.bytes.extend_from_slice(&length.to_le_bytes());
    }
}

/// Reads a message's items, one by one.
#[derive(Debug)]
pub struct CarriedItems<'a>(&'a [u8]);

impl<'a> CarriedItems<'a> {
    /// The items of this message.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self(body)
    }
}

impl<'a> Iterator for CarriedItems<'a> {
    /// An error is the peer's fault; nothing follows it.
    type Item = Result<Carried<'a>, NotUnderstood>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let item = self.read();
        if item.is_none() {
            self.0 = &[];
        }
        Some(item.ok_or_else(malformed))
    }
}

impl<'a> CarriedItems<'a> {
    fn read(&mut self) -> Option<Carried<'a>> {
        let (&[s0, s1, s2, s3, what, 0, l0, l1], rest) = self.0.split_first_chunk::<ITEM_HEADER_BYTES>()?
        else {
            return None;
        };
        let (body, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([l0, l1])))?;
        self.0 = rest;
        let what = match what {
            OPEN => {
                let (address, hello) = body.split_first_chunk::<ADDRESS_BYTES>()?;
                CarriedWhat::Open { source: read_address(address), hello: hello.try_into().ok()? }
            }
            FRAMES if !body.is_empty() => CarriedWhat::Frames(body),
            END if body.is_empty() => CarriedWhat::End,
            _ => return None,
        };
        Some(Carried { session: u32::from_le_bytes([s0, s1, s2, s3]), what })
    }
}

/// Most bytes of a message that a server sends on a connection that carries sessions; `None`: it sends none of that kind.
#[must_use]
pub fn from_server_bytes_max(kind: u16) -> Option<usize> {
    match kind {
        Carrying::KIND => Some(Carrying::BYTES),
        kind => from_first_manager_bytes_max(kind),
    }
}

/// The same for what a manager sends.
#[must_use]
pub fn from_manager_bytes_max(kind: u16) -> Option<usize> {
    match kind {
        Others::KIND => Some(Others::BYTES_MAX),
        kind => from_first_manager_bytes_max(kind),
    }
}

/// The same for a manager that speaks version 1.
#[must_use]
pub fn from_first_manager_bytes_max(kind: u16) -> Option<usize> {
    (kind == CarriedBatch::KIND).then_some(CarriedBatch::BYTES_MAX)
}

fn read_address(bytes: &[u8; ADDRESS_BYTES]) -> SocketAddr {
    let (ip, port) = bytes.split_at(16);
    let ip: [u8; 16] = ip.try_into().expect("it is as long as that");
    SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_le_bytes([port[0], port[1]]))
}

fn malformed() -> NotUnderstood {
    NotUnderstood("carried sessions")
}

const OPEN: u8 = 0;
const FRAMES: u8 = 1;
const END: u8 = 2;
const ITEM_HEADER_BYTES: usize = 8;
/// IPv6 address and port.
const ADDRESS_BYTES: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn bodies(batch: &mut CarriedBatch) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        batch.messages(|body| bodies.push(body.to_vec()));
        bodies
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let hello = [7; HELLO_BYTES];
        let sources: [SocketAddr; 2] =
            ["10.0.0.1:9".parse().unwrap(), "[2001:db8::1]:65535".parse().unwrap()];
        let mut batch = CarriedBatch::default();
        sources.iter().for_each(|source| batch.open(1, *source, &hello));
        batch.frames(2, b"abc");
        batch.frames(2, b"");
        batch.end(u32::MAX);
        let bodies = bodies(&mut batch);
        assert!(batch.is_empty() && bodies.len() == 1);
        let items: Vec<_> = CarriedItems::new(&bodies[0]).map(Result::unwrap).collect();
        let open = |source| Carried { session: 1, what: CarriedWhat::Open { source, hello: &hello } };
        let frames = Carried { session: 2, what: CarriedWhat::Frames(b"abc") };
        let end = Carried { session: u32::MAX, what: CarriedWhat::End };
        assert_eq!(items, [open(sources[0]), open(sources[1]), frames, end]);
    }

    #[test]
    fn a_batch_longer_than_a_message_becomes_several_and_no_item_is_cut() {
        let mut batch = CarriedBatch::default();
        let text: Vec<u8> = (0..200_000_u32).map(|at| at as u8).collect();
        batch.frames(5, &text);
        let bodies = bodies(&mut batch);
        assert!(bodies.len() > 3 && bodies.iter().all(|body| body.len() <= CarriedBatch::BYTES_MAX));
        let mut joined = Vec::new();
        for item in bodies.iter().flat_map(|body| CarriedItems::new(body)) {
            let CarriedWhat::Frames(bytes) = item.unwrap().what else { panic!("only frames went in") };
            joined.extend_from_slice(bytes);
        }
        assert_eq!(joined, text);
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused_and_nothing_behind_them_is_read() {
        let mut batch = CarriedBatch::default();
        batch.end(1);
        batch.frames(1, b"x");
        let good = bodies(&mut batch).remove(0);
        for cut in 1..good.len() {
            let whole = CarriedItems::new(&good[..cut]).take_while(Result::is_ok).count();
            assert_eq!(whole, usize::from(cut >= ITEM_HEADER_BYTES));
            assert_eq!(CarriedItems::new(&good[..cut]).any(|item| item.is_err()), cut != ITEM_HEADER_BYTES);
        }
        // An unknown item, a byte that must be zero, an end with a body, a hello that is too short.
        for (at, value) in [(4, 3), (5, 1), (6, 1), (4, OPEN)] {
            let mut bad = good.clone();
            bad[at] = value;
            let mut items = CarriedItems::new(&bad);
            assert!(items.next().unwrap().is_err() && items.next().is_none());
        }
    }

    #[test]
    fn the_servers_first_message_names_a_worker_that_exists() {
        let carrying = Carrying { seller: SellerId(9), workers: 3, worker: 2 };
        assert_eq!(Carrying::decode(&carrying.encode()), Ok(carrying));
        assert!(Carrying::decode(&Carrying { worker: 3, ..carrying }.encode()).is_err());
        assert!(Carrying::decode(&carrying.encode()[..7]).is_err());
    }

    #[test]
    fn other_addresses_come_out_as_they_went_in_and_nothing_else_is_read() {
        let all: [SocketAddr; 5] =
            std::array::from_fn(|at| format!("[2001:db8::{at}]:{}", 7600 + at).parse().unwrap());
        let v4: SocketAddr = "10.0.0.1:7651".parse().unwrap();
        for sockets in [&[][..], &[v4], &all[..4], &all] {
            let others = Others(Addresses::of(sockets.iter().copied()));
            let bytes = others.encode();
            assert!(bytes.len() <= Others::BYTES_MAX);
            assert_eq!(Others::decode(&bytes), Ok(others));
            assert!(others.0.sockets().eq(sockets.iter().copied().take(ADDRESSES_MAX)));
            let turned: BTreeSet<_> = others.0.turned(3).sockets().collect();
            assert!(
                turned.into_iter().eq(others.0.sockets().collect::<BTreeSet<_>>()),
                "all are there still"
            );
            assert!(Others::decode(&bytes[..bytes.len() - 1]).is_err());
            assert!(Others::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
        assert!(Others::decode(&[&[5, 0, 0, 0][..], &[0; 90]].concat()).is_err(), "five are too many");
        assert_eq!(from_first_manager_bytes_max(Others::KIND), None, "version 1 has no such message");
    }
}
