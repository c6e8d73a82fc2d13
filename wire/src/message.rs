//! What a terminal and its seller say to each other.
//!
//! Every message is a plain value of bounded size; texts are [`Text`]s, held in place. A vend and its answers need no
//! allocation. What is large, a login and what is said around it, comes once a connection or less and is boxed, so that it
//! does not make every message large. `spec/wire.md` has the bytes.

use crate::session::Suite;
use crate::settlement::SoldBox;
use alloc::boxed::Box;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Sequences above the window's base that a seller keeps open for one terminal at a time.
pub const WINDOW: u64 = 64;
/// Longest PIN, in bytes.
pub const PIN_BYTES_MAX: usize = 26;
/// Longest serial, in bytes.
pub const SERIAL_BYTES_MAX: usize = 20;
/// Longest receipt text of a variety, in bytes.
pub const RECEIPT_BYTES_MAX: usize = 160;
/// Longest name of a variety, in bytes.
pub const NAME_BYTES_MAX: usize = 40;
/// Most unresolved sequences that a login may carry.
pub const UNRESOLVED_MAX: usize = 16;
/// Most other addresses that a welcome or a bye may carry.
pub const ADDRESSES_MAX: usize = 4;
/// Most varieties in one page of the catalogue.
pub const CATALOGUE_ENTRIES_MAX: usize = 2;

/// Names a terminal in the whole network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TerminalId(pub u64);

/// Counts the keys that a terminal has had; selects the key and the numbering of sequences.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct KeyEpoch(pub u32);

/// Names the journalled node that answers for a sequence. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SellerId(pub u32);

/// A short text held in place: at most `N` bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// The text of no bytes.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; N] };

    /// Copies `bytes`; `None` if there are more than `N`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut text = Self::EMPTY;
        text.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        text.len = u8::try_from(bytes.len()).ok()?;
        Some(text)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> core::fmt::Debug for Text<N> {
    /// Says the length only: a text may be a PIN.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Text({} bytes)", self.len)
    }
}

/// The secret that is sold.
pub type Pin = Text<PIN_BYTES_MAX>;
/// The supplier's public number of a PIN.
pub type Serial = Text<SERIAL_BYTES_MAX>;

/// Terminal to seller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// The terminal's first sealed message.
    Login(Box<Login>),
    /// One page of the catalogue, from the variety at this index on.
    Catalogue {
        /// Index of the first variety wanted.
        from: u16,
    },
    /// Sell one PIN.
    Vend(Vend),
    /// The PIN of this sequence was printed.
    Confirm {
        /// The sequence.
        sequence: u64,
    },
    /// The PIN of this sequence was not handed out; or: never sell for it.
    Void {
        /// The sequence.
        sequence: u64,
    },
    /// What became of this sequence.
    Status {
        /// The sequence.
        sequence: u64,
    },
    /// The PIN of a sold sequence once more; counted and limited.
    Reprint {
        /// The sequence.
        sequence: u64,
    },
    /// What another seller says of a sequence of its, which is asked through this one.
    Settle(Settle),
}

/// Asks a seller about a sequence through another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settle {
    /// Who answers for the sequence.
    pub seller: SellerId,
    /// The sequence.
    pub sequence: u64,
    /// What is to be done.
    pub action: SettleAction,
    /// How a PIN is to be sealed that comes back.
    pub suite: Suite,
}

/// What is asked of the seller of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SettleAction {
    /// Its state. One that was never sold is blocked: it will not be.
    Resolve = 0,
    /// Its state.
    Status = 1,
    /// The PIN was printed.
    Confirm = 2,
    /// The PIN was not handed out; or: never sell for it.
    Void = 3,
    /// The PIN, sealed for the terminal alone.
    Pin = 4,
}

/// The unresolved sequences a terminal brings to a login: sent, and no final state known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Login {
    /// How many of `unresolved` count.
    pub count: u8,
    /// (seller, sequence), the first `count`.
    pub unresolved: [(SellerId, u64); UNRESOLVED_MAX],
}

impl Login {
    /// The login of a terminal that has nothing unresolved.
    pub const EMPTY: Self = Self { count: 0, unresolved: [(SellerId(0), 0); UNRESOLVED_MAX] };

    /// The pairs that count.
    #[must_use]
    pub fn pairs(&self) -> &[(SellerId, u64)] {
        &self.unresolved[..usize::from(self.count).min(UNRESOLVED_MAX)]
    }
}

/// First or repeated question for one sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Attempt {
    /// Never sent before.
    First = 1,
    /// May have been sent before.
    Repeat = 2,
}

/// Asks for one PIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vend {
    /// Whether this sequence may have been sent before.
    pub attempt: Attempt,
    /// The terminal's number of this sale at this seller, from 1.
    pub sequence: u64,
    /// The product asked for.
    pub product: u32,
    /// Face value in minor units of the product's currency.
    pub face_value: u64,
    /// How long the terminal will wait for an answer, in milliseconds from its arrival.
    pub deadline_ms: u32,
    /// Bit `i` set: sequence `sequence - 1 - i` is confirmed.
    pub confirmed: u64,
}

/// Seller to terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The first sealed message.
    Welcome(Box<Welcome>),
    /// What became of the sequences that a login brought, in its order.
    Resolved(Box<Resolved>),
    /// Part of the catalogue.
    Catalogue(Box<CataloguePage>),
    /// One PIN.
    Sold(Sold),
    /// Final: no PIN for this sequence, ever.
    Declined {
        /// The sequence.
        sequence: u64,
        /// Why.
        reason: DeclineReason,
    },
    /// No answer yet: the sequence stays open, ask again.
    Later {
        /// The sequence.
        sequence: u64,
        /// Why.
        reason: LaterReason,
        /// How long to wait before asking again, in milliseconds.
        wait_ms: u32,
        /// For the slip, when the outcome is in doubt; otherwise 0.
        reference: u64,
    },
    /// The question itself is wrong; nothing changed and the sequence's outcome is what it was.
    Refused {
        /// The sequence asked about.
        sequence: u64,
        /// Why.
        reason: RefuseReason,
    },
    /// Where a sequence stands: answers confirm, void and status.
    State {
        /// The sequence.
        sequence: u64,
        /// Its state.
        state: SequenceState,
        /// The sale's reference; 0 if there is none.
        reference: u64,
    },
    /// What another seller says of a sequence of its.
    Settled(Box<Settled>),
}

/// Answers [`Request::Settle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settled {
    /// Who answers for the sequence.
    pub seller: SellerId,
    /// The sequence.
    pub sequence: u64,
    /// Its state; `InDoubt`: that seller cannot be asked now.
    pub state: SequenceState,
    /// The sale's reference; 0 if there is none.
    pub reference: u64,
    /// The PIN, if it was asked for and may be had.
    pub sealed: SoldBox,
}

/// What the seller tells a terminal first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Who answers for this session's sequences.
    pub seller: SellerId,
    /// The key epoch the sequences belong to.
    pub key_epoch: KeyEpoch,
    /// The lowest sequence never used.
    pub next_sequence: u64,
    /// The lowest sequence without a final state; equals `next_sequence` when all are final.
    pub window_base: u64,
    /// Sequences from `window_base` on that may be open: [`WINDOW`].
    pub window: u8,
    /// Send something at least this often, in seconds.
    pub ping_interval_s: u16,
    /// Wait between attempts to connect: at least, in milliseconds.
    pub back_off_min_ms: u32,
    /// Wait between attempts to connect: at most, in milliseconds.
    pub back_off_max_ms: u32,
    /// Changes whenever the catalogue does.
    pub catalogue_version: u32,
    /// Where else to connect; the terminal may store them.
    pub addresses: Addresses,
}

/// Up to [`ADDRESSES_MAX`] socket addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Addresses {
    /// How many of `list` count.
    pub count: u8,
    /// IPv6 or IPv4-mapped address, and port.
    pub list: [([u8; 16], u16); ADDRESSES_MAX],
}

impl Addresses {
    /// The first [`ADDRESSES_MAX`] of some socket addresses.
    #[must_use]
    pub fn of(sockets: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut addresses = Self::default();
        for (place, socket) in addresses.list.iter_mut().zip(sockets) {
            let ip = match socket.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            *place = (ip.octets(), socket.port());
            addresses.count += 1;
        }
        addresses
    }

    /// The same in turn, beginning with another: those who are told need not all go to one place first.
    #[must_use]
    pub fn turned(mut self, by: usize) -> Self {
        let count = self.entries().len();
        if count > 0 {
            self.list[..count].rotate_left(by % count);
        }
        self
    }

    /// The addresses that count, an IPv4-mapped one as IPv4.
    pub fn sockets(&self) -> impl Iterator<Item = SocketAddr> {
        let socket = |&(ip, port): &([u8; 16], u16)| SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port);
        self.entries().iter().map(socket)
    }

    /// The addresses that count.
    #[must_use]
    pub fn entries(&self) -> &[([u8; 16], u16)] {
        &self.list[..usize::from(self.count).min(ADDRESSES_MAX)]
    }
}

/// Answers a login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// How many of `outcomes` count.
    pub count: u8,
    /// The outcomes, the first `count`.
    pub outcomes: [Outcome; UNRESOLVED_MAX],
}

impl Resolved {
    /// The answer to a login that brought nothing.
    pub const EMPTY: Self = Self { count: 0, outcomes: [Outcome::EMPTY; UNRESOLVED_MAX] };

    /// The outcomes that count.
    #[must_use]
    pub fn list(&self) -> &[Outcome] {
        &self.outcomes[..usize::from(self.count).min(UNRESOLVED_MAX)]
    }
}

/// Where one unresolved sequence stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The seller of the sequence.
    pub seller: SellerId,
    /// The sequence.
    pub sequence: u64,
    /// Its state; `InDoubt` if another seller must be asked and does not answer.
    pub state: SequenceState,
    /// The sale's reference; 0 if there is none.
    pub reference: u64,
}

impl Outcome {
    /// The outcome that fills unused places of a [`Resolved`].
    pub const EMPTY: Self =
        Self { seller: SellerId(0), sequence: 0, state: SequenceState::Open, reference: 0 };
}

/// A page of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CataloguePage {
    /// The version that this page is part of.
    pub version: u32,
    /// Varieties in the whole catalogue.
    pub total: u16,
    /// Index of the first entry.
    pub from: u16,
    /// How many of `entries` count.
    pub count: u8,
    /// The entries, the first `count`.
    pub entries: [CatalogueEntry; CATALOGUE_ENTRIES_MAX],
}

impl CataloguePage {
    /// The entries that count.
    #[must_use]
    pub fn list(&self) -> &[CatalogueEntry] {
        &self.entries[..usize::from(self.count).min(CATALOGUE_ENTRIES_MAX)]
    }
}

/// One variety as a terminal sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatalogueEntry {
    /// The product.
    pub product: u32,
    /// Face value in minor units.
    pub face_value: u64,
    /// ISO 4217 code in ASCII.
    pub currency: [u8; 3],
    /// Digits after the decimal point of the currency's major unit.
    pub currency_digits: u8,
    /// Whether the seller holds stock now.
    pub available: bool,
    /// How the texts are encoded.
    pub charset: Charset,
    /// What to show.
    pub name: Text<NAME_BYTES_MAX>,
    /// What to print, lines separated by LF.
    pub receipt: Text<RECEIPT_BYTES_MAX>,
}

impl CatalogueEntry {
    /// The entry that fills unused places of a page.
    pub const EMPTY: Self = Self {
        product: 0,
        face_value: 0,
        currency: [0; 3],
        currency_digits: 0,
        available: false,
        charset: Charset::Ascii,
        name: Text::EMPTY,
        receipt: Text::EMPTY,
    };
}

/// How texts of a variety are encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Charset {
    /// US-ASCII.
    Ascii = 0,
    /// UTF-8.
    Utf8 = 1,
    /// ISO 8859-1.
    Latin1 = 2,
    /// Windows code page 1256 (Arabic).
    Cp1256 = 3,
}

/// One sold PIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sold {
    /// The sequence.
    pub sequence: u64,
    /// Names the PIN in the whole network: block number × 65,536 + index.
    pub reference: u64,
    /// 0: the answer to a vend; n: the n-th reprint.
    pub copy: u16,
    /// Last day of validity as year × 10,000 + month × 100 + day; 0: none.
    pub expiry: u32,
    /// The PIN.
    pub pin: Pin,
    /// The serial.
    pub serial: Serial,
}

/// Why a sequence ends without a PIN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum DeclineReason {
    /// No variety has this product and face value.
    NoSuchVariety = 1,
    /// The network has no PIN of this variety.
    OutOfStock = 2,
    /// The terminal's dealer may not sell this variety.
    NotPermitted = 3,
    /// The terminal's dealer is suspended or closed.
    DealerInactive = 4,
    /// The terminal voided this sequence before it was sold.
    Blocked = 5,
}

/// Why there is no answer yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LaterReason {
    /// Stock is on its way or upstream does not answer.
    Stock = 1,
    /// The seller's disk is full.
    Disk = 2,
    /// The seller has too much in flight.
    Busy = 3,
    /// The seller is stopping.
    Stopping = 4,
    /// Another seller must settle the sequence and cannot be asked now.
    InDoubt = 5,
}

/// Why a question was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RefuseReason {
    /// `first` for a sequence that has been used.
    SequenceUsed = 1,
    /// A repeat for another variety than before.
    OtherVariety = 2,
    /// The sequence lies below the window.
    Closed = 3,
    /// The sequence lies beyond the window: confirm or void older ones first.
    WindowFull = 4,
    /// Sequence 0, or a confirm, status or reprint of one that was never sold.
    NothingSold = 5,
    /// This sequence was reprinted as often as is allowed.
    ReprintLimit = 6,
    /// A message that must come after the login came before it, or a second login.
    OutOfOrder = 7,
}

/// Where a sequence stands at its seller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SequenceState {
    /// Never seen, or only answered `later`.
    Open = 0,
    /// Sold; neither confirmed nor voided.
    Sold = 1,
    /// Final: sold and printed.
    Confirmed = 2,
    /// Final: sold, then voided; the PIN is withdrawn.
    Voided = 3,
    /// Final: declined.
    Declined = 4,
    /// Final: voided before it was ever sold; it will not be sold.
    Blocked = 5,
    /// Final: the seller was lost before it reported what became of it.
    Unsettled = 6,
    /// The seller of the sequence cannot be asked now.
    InDoubt = 7,
}

impl SequenceState {
    /// Whether nothing can change this state any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Confirmed | Self::Voided | Self::Declined | Self::Blocked | Self::Unsettled)
    }
}

// Messages are handed on by value several times a sale: they stay about as small as what a sale says.
const _: () = assert!(size_of::<Request>() <= size_of::<Vend>() + 8);
const _: () = assert!(size_of::<Reply>() <= size_of::<Sold>() + 8);

macro_rules! coded {
    ($($name:ident { $($variant:ident),+ })+) => { $(
        impl $name {
            /// The value with this code.
            #[must_use]
            pub fn from_byte(code: u8) -> Option<Self> {
                [$(Self::$variant),+].into_iter().find(|value| *value as u8 == code)
            }
        }
    )+ };
}
pub(crate) use coded;

coded! {
    Attempt { First, Repeat }
    Charset { Ascii, Utf8, Latin1, Cp1256 }
    DeclineReason { NoSuchVariety, OutOfStock, NotPermitted, DealerInactive, Blocked }
    LaterReason { Stock, Disk, Busy, Stopping, InDoubt }
    RefuseReason { SequenceUsed, OtherVariety, Closed, WindowFull, NothingSold, ReprintLimit, OutOfOrder }
    SettleAction { Resolve, Status, Confirm, Void, Pin }
    SequenceState { Open, Sold, Confirmed, Voided, Declined, Blocked, Unsettled, InDoubt }
}
