//! A shop counter without the shop: sessions, seller and terminals in one thread, neither sockets nor sync.

use engine::disk::heap::HeapDisk;
use engine::ids::{BatchId, BlockId, KeyEpoch, SellerId, Span, TerminalId, VarietyId};
use engine::journal::{Journal, JournalOptions, Position};
use engine::pool::Range;
use engine::registry::{Dealer, Registry, State, Variety};
use engine::seller::{Asker, Library, Replies, Seller, Windows};
use engine::steward::Content;
use engine::stock::segment::{segment_path, write_segment};
use engine::stock::{BlockKey, BlockProperties, DataKey, Expiry, NodeKeys, SegmentHeader};
use engine::time::Now;
use std::sync::Arc;
use wire::frame::REPLY_BYTES_MAX;
use wire::message::{Attempt, Login, Reply, Request, Text, Vend};
use wire::session::{
    Acceptor, HELLO_BYTES, HandshakeInbound, Inbound, Mode, SellerSession, Suite, TerminalHandshake,
    TerminalSession,
};

/// Terminals that are logged in.
pub const TERMINALS: usize = 1_000;
const BLOCK_PINS: u32 = 65_536;

/// One worker's seller with its terminals' sessions, and the terminals, all in memory.
pub struct Counter {
    disk: HeapDisk,
    keys: NodeKeys,
    seller: Seller<Content<HeapDisk>>,
    space: Arc<engine::journal::Space>,
    library: Arc<Library<Content<HeapDisk>>>,
    sessions: Vec<SellerSession>,
    terminals: Vec<TerminalSession>,
    sequence: u64,
    blocks: u64,
    in_stock: u64,
    now: Now,
}

/// Encodes replies as a worker does.
struct Outbox<'a> {
    session: &'a mut SellerSession,
    bytes: &'a mut [u8],
    length: usize,
}

impl Replies for Outbox<'_> {
    fn reply(&mut self, asker: &Asker, reply: &Reply) {
        assert!(matches!(reply, Reply::Sold(_) | Reply::Resolved(_)), "{reply:?}");
        self.length += self.session.send(asker.correlation, reply, self.bytes);
    }
}

struct Nobody;

impl Replies for Nobody {
    fn reply(&mut self, _: &Asker, reply: &Reply) {
        panic!("nobody asked, and hears {reply:?}");
    }
}

impl Counter {
    /// Terminals that are logged in, and no stock yet.
    ///
    /// # Panics
    /// When the engine does not do what it must.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        let variety = Variety::airtime(VarietyId(1), "airtime-10", 1, 1000);
        let dealer = Dealer { id: 1, name: "Shop".into(), state: State::Active };
        let registry =
            Arc::new(Registry::new(1, vec![variety], vec![dealer], Vec::new()).expect("it is right"));
        let disk = HeapDisk::new();
        let options = JournalOptions::with_segment_bytes(64 << 20);
        let journal =
            Journal::open(Arc::new(disk.clone()), options, Position(0), Position(0), &mut |_, _| Ok(()));
        let space = journal.expect("it is empty").space();
        let library = Arc::<Library<_>>::default();
        let seller = Seller::new(SellerId(1), registry, library.clone(), Windows::default(), space.clone());
        let (mut sessions, mut terminals) = (Vec::new(), Vec::new());
        for id in 1..=TERMINALS as u64 {
            let (session, terminal) = pair(TerminalId(id), mode);
            sessions.push(session);
            terminals.push(terminal);
        }
        let now = Now { monotonic_ms: 1, unix_ms: 1_800_000_000_000 };
        let keys = NodeKeys::from_node_key(&[2; 32]);
        let mut counter = Self {
            disk,
            keys,
            seller,
            space,
            library,
            sessions,
            terminals,
            sequence: 0,
            blocks: 0,
            in_stock: 0,
            now,
        };
        counter.log_in();
        counter
    }

    fn log_in(&mut self) {
        for at in 0..TERMINALS {
            let mut frame = [0; 512];
            let length = self.terminals[at].send(1, &Request::Login(Box::new(Login::EMPTY)), &mut frame);
            self.serve(at, &mut frame[..length], &mut [0; REPLY_BYTES_MAX]);
        }
    }

    /// Makes sure that there are so many PINs to sell.
    ///
    /// # Panics
    /// When the engine does not do what it must.
    pub fn stock(&mut self, count: u64) {
        while self.in_stock < count {
            self.blocks += 1;
            let span = Span { block: BlockId(self.blocks), start: 0, end: BLOCK_PINS };
            let properties = BlockProperties {
                block: span.block,
                variety: VarietyId(1),
                batch: BatchId(1),
                expiry: Expiry(20_991_231),
            };
            let data_key = DataKey::from_bytes([7; 32]);
            let key = BlockKey::new(properties, &data_key);
            let records: Vec<u8> = (0..BLOCK_PINS)
                .flat_map(|index| {
                    let text = format!("{index:016}");
                    let text = Text::new(text.as_bytes()).expect("it is short");
                    key.seal(index as u16, &Text::new(b"S0001").expect("it is short"), &text)
                })
                .collect();
            let header = SegmentHeader {
                properties,
                start: 0,
                end: BLOCK_PINS,
                generation: 2,
                block_count: BLOCK_PINS,
                key: self.keys.at_rest().wrap(span.block, &data_key),
            };
            write_segment(&self.disk, &segment_path(span, 2), &header, &[&records]).expect("there is room");
            let shelf = Content::open(&self.disk, span, 2, self.keys.at_rest()).expect("it was just written");
            let shelf = Arc::new(shelf);
            self.library.add(shelf.clone());
            let range = Arc::new(Range::new(shelf, 0, BLOCK_PINS));
            self.seller.handle_range(range, &self.now, &mut Nobody);
            self.in_stock += u64::from(BLOCK_PINS);
        }
    }

    fn serve(&mut self, at: usize, frame: &mut [u8], out: &mut [u8]) -> usize {
        let session = &mut self.sessions[at];
        let Ok(Some((_, Inbound::Request { correlation, request }))) = session.receive(frame) else {
            panic!("a whole request")
        };
        let (terminal, key_epoch) = (session.terminal(), session.key_epoch());
        let asker = Asker { session: at as u64, terminal, key_epoch, dealer: 1, correlation };
        let mut outbox = Outbox { session, bytes: out, length: 0 };
        self.seller.handle_request(&asker, &request, &self.now, &mut outbox);
        outbox.length
    }

    /// The next vend of every terminal, as it comes off the wire.
    pub fn frames(&mut self) -> Vec<Frame> {
        self.sequence += 1;
        let sequence = self.sequence;
        let frame = |terminal: &mut TerminalSession| {
            let vend = Vend {
                attempt: Attempt::First,
                sequence,
                product: 1,
                face_value: 1000,
                deadline_ms: 1000,
                confirmed: u64::from(sequence > 1),
            };
            let mut frame = [0; FRAME_BYTES];
            let length = terminal.send(2, &Request::Vend(vend), &mut frame);
            (frame, length)
        };
        self.terminals.iter_mut().map(frame).collect()
    }

    /// Sells to every terminal, and throws the replies away.
    ///
    /// # Panics
    /// When a PIN is not sold.
    #[inline(never)]
    pub fn sell(&mut self, frames: &mut [Frame]) {
        let mut out = [0; REPLY_BYTES_MAX];
        for (at, (frame, length)) in frames.iter_mut().enumerate() {
            std::hint::black_box(self.serve(at, &mut frame[..*length], &mut out));
        }
        self.in_stock -= frames.len() as u64;
    }

    /// Takes the records away as the journal does, and gives their room back.
    pub fn commit(&mut self) {
        let records = self.seller.records().drain(..).count();
        self.space.give_back(records);
    }
}

/// The bytes of one vend, and how many count.
pub type Frame = ([u8; FRAME_BYTES], usize);

const FRAME_BYTES: usize = 96;

fn pair(id: TerminalId, mode: Mode) -> (SellerSession, TerminalSession) {
    let (psk, epoch) = ([3; 32], KeyEpoch(1));
    let mut hello = [0; HELLO_BYTES];
    let (mut handshake, length) =
        TerminalHandshake::start(id, epoch, Suite::AesGcm, mode, &psk, &[id.0 as u8; 32], &mut hello);
    let acceptor = Acceptor::new(true);
    let (_, parsed) = acceptor.hello(&hello[..length]).expect("it is right").expect("it is whole");
    let mut answer = [0; 512];
    let (mut session, length) =
        acceptor.accept(&parsed, &psk, &[9; 32], &mut answer).expect("the key is right");
    let Ok(Some((_, HandshakeInbound::Session(mut terminal)))) = handshake.receive(&answer[..length]) else {
        panic!("the handshake succeeds")
    };
    let welcome = wire::message::Welcome {
        seller: SellerId(1),
        key_epoch: epoch,
        next_sequence: 1,
        window_base: 1,
        window: 64,
        ping_interval_s: 60,
        back_off_min_ms: 1,
        back_off_max_ms: 1,
        catalogue_version: 1,
        addresses: wire::message::Addresses::default(),
    };
    let length = session.send(0, &Reply::Welcome(Box::new(welcome)), &mut answer);
    assert!(terminal.receive(&mut answer[..length]).is_ok_and(|inbound| inbound.is_some()));
    (session, terminal)
}
