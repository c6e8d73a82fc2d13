//! What a hub and a node say to each other.
//!
//! A link has two channels ([`LinkMessage::channel`]): within each, messages arrive in order and once; between them there is
//! no order, but that the first message of all comes on the control channel and is received before anything else. In this
//! module a connection is one life of a link with both its channels. When it ends, everything on its way is lost, and
//! the node begins the next one with [`ToHub::Hello`]; the hub answers [`ToNode::Welcome`], [`ToNode::Registry`] and
//! [`ToNode::Drain`], offers every open transfer again, and says [`ToNode::Ready`]. A welcomed node does the same with
//! the stock that it gives back, and says [`ToHub::Ready`].
//!
//! The same is said between a server and the nodes below it, with the server in the place of the hub. What only the hub can do for
//! a node below goes through its server in envelopes ([`ToHub::Below`], [`ToNode::Below`]).
//!
//! Stock that goes back has no content on its way: the hub has the file of every block, compares the checksum of the offer
//! with its own records of the span, and refuses what it does not know.

mod carried;
mod codec;
mod fields;
mod questions;

pub use carried::{
    Carried, CarriedBatch, CarriedItems, CarriedWhat, Carrying, Others, from_first_manager_bytes_max,
    from_manager_bytes_max, from_server_bytes_max,
};
pub use codec::{Encoded, LinkMessage, NotUnderstood};
pub(crate) use questions::Questions;
pub use wire::link::Channel;

use crate::ids::{SellerId, Span, VarietyId};
use crate::journal::record::{Stream, TransferFact, VendName};
use crate::policy::{Levels, Rate};
use crate::registry::{Delta, Registry, TerminalKey};
use crate::stock::segment::checksum;
use crate::stock::{BlockProperties, WrappedKey};
use bytes::Bytes;
use std::sync::Arc;
use wire::message::{SequenceState, SettleAction};
use wire::session::Suite;
use wire::settlement::SoldBox;

/// Node to hub.
#[derive(Clone, Debug)]
pub enum ToHub {
    /// Begins a connection.
    Hello {
        /// Who is calling.
        node: SellerId,
        /// The highest hub epoch this node has seen; 0: none. A hub with a lower one is a stale copy and stops.
        hub_epoch: u64,
        /// The hub has acknowledged the node's journal at least up to this position. One that holds less is a stale copy
        /// and stops.
        journal_from: u64,
        /// Stands in every batch that the node has written to its journal since it was started.
        journal_mark: u64,
        /// Worker threads that sell.
        workers: u16,
        /// The version of the registry that the node holds; 0: none.
        registry_version: u64,
        /// The digest of that registry; 0: none, or not worked out.
        registry_digest: u64,
    },
    /// What the node has, about once a second and soon after it changed.
    Report(Report),
    /// Send stock in bulk.
    Need {
        /// Names the request within this connection; not 0.
        request: u64,
        /// Of what.
        variety: VarietyId,
        /// How many PINs.
        count: u32,
    },
    /// Send one PIN that a terminal is waiting for.
    Urgent {
        /// Names the request within this connection; not 0.
        request: u64,
        /// Of what.
        variety: VarietyId,
    },
    /// How much of an offered content has arrived. Sent at least once for every [`CHUNKS_IN_FLIGHT_MAX`] / 2 chunks,
    /// and for an offer whose content is held in part from an earlier connection.
    Progress {
        /// The transfer's numbering.
        stream: Stream,
        /// The transfer's number.
        number: u64,
        /// Content bytes held, from the start, without gap.
        bytes: u32,
    },
    /// How a transfer ended. Durable at the taker.
    Answer {
        /// The transfer's numbering.
        stream: Stream,
        /// The transfer's number.
        number: u64,
        /// Whether the taker took the segment; otherwise it is the giver's again.
        accepted: bool,
    },
    /// Whole durable batches of the node's journal.
    Journal {
        /// Position of the first byte: where the last range ended, or one slot of 64 bytes after it at the end of a
        /// journal segment. One that begins elsewhere is dropped and answered with the position reached; one that
        /// begins right and does not continue the chain of batches is a fault.
        from: u64,
        /// The bytes; the next range begins at `from + bytes.len()`.
        bytes: Bytes,
    },
    /// A segment that the node gives back, in [`Stream::Bulk`]. Its OUT is durable. `request` names the recall that it
    /// serves, 0: none of this connection; `wrapped_key` is all zero, since the hub has the key.
    Offer(Offer),
    /// All open transfers to the hub of earlier connections have been offered again.
    Ready,
    /// All offers for a recall are out, perhaps not yet here.
    Recalled {
        /// The recall.
        recall: u64,
        /// How many PINs were offered for it; less than asked for: the node has no more.
        count: u32,
    },
    /// The node stops: it goes offline or was declared lost, has nothing left, and all of its journal is acknowledged. The last
    /// message of a node.
    Farewell {
        /// Where its journal ends.
        journal_end: u64,
    },
    /// A terminal wants to know what became of a sequence of another seller.
    Ask {
        /// Names the question within this connection.
        question: u64,
        /// Who answers for the sequence.
        seller: SellerId,
        /// The sequence, and what is asked of it.
        asked: Asked,
    },
    /// The answer to [`ToNode::Asked`]; what it says is durable.
    Told {
        /// The question.
        question: u64,
        /// The answer.
        told: Told,
    },
    /// The node holds a registry durably.
    RegistryHeld {
        /// Its version.
        version: u64,
        /// Its digest.
        digest: u64,
    },
    /// What a node below this one says to the hub: [`ToHub::Hello`], [`ToHub::Report`], [`ToHub::Journal`],
    /// [`ToHub::RegistryHeld`], [`ToHub::Farewell`], [`ToHub::Ask`] or [`ToHub::Told`], nothing else. A journal range follows only when all of this node's own
    /// journal is acknowledged that was durable when the range came.
    Below {
        /// Who says it.
        node: SellerId,
        /// What.
        message: Box<ToHub>,
    },
    /// A node below this one is connected no more.
    BelowGone {
        /// Which.
        node: SellerId,
    },
}

/// A question about a sequence of another seller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The sequence.
    pub vend: VendName,
    /// What is to be done.
    pub action: SettleAction,
    /// How a PIN is to be sealed for the terminal.
    pub suite: Suite,
}

/// What the seller of a sequence says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Its state; `InDoubt`: it cannot be asked now, or could not do what was asked.
    pub state: SequenceState,
    /// The sale's reference; 0: none.
    pub reference: u64,
    /// The PIN, if it was asked for and may be had.
    pub sealed: SoldBox,
}

impl Told {
    /// The seller of the sequence cannot be asked now.
    pub const IN_DOUBT: Self = Self { state: SequenceState::InDoubt, reference: 0, sealed: SoldBox::NONE };
}

/// What a node has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Where its journal ended durably a moment ago: a position.
    pub journal_end: u64,
    /// Transfers to the hub that are not settled.
    pub returns_open: u32,
    /// Each variety at most once; those it does not name it has nothing of.
    pub stock: Vec<StockReport>,
}

/// What a node has of one variety. Amounts are PINs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StockReport {
    /// The variety.
    pub variety: VarietyId,
    /// In its lanes, and sellable.
    pub on_hand: u64,
    /// Asked for by recalls and not given up yet.
    pub recalling: u64,
    /// What its disk has room for; `None`: not known.
    pub room: Option<u64>,
    /// How fast it sells, smoothed.
    pub rate: Rate,
    /// Its marks.
    pub levels: Levels,
    /// Sold since its journal began.
    pub sold_total: u64,
}

/// Hub to node.
#[derive(Clone, Debug)]
pub enum ToNode {
    /// A terminal at another seller wants to know what became of a sequence of this node.
    Asked {
        /// Names the question within this connection.
        question: u64,
        /// The sequence, and what is asked of it.
        asked: Asked,
    },
    /// The answer to [`ToHub::Ask`].
    Told {
        /// The question.
        question: u64,
        /// The answer.
        told: Told,
    },
    /// Answers a hello.
    Welcome {
        /// Grows with every start of the hub. The node refuses a lower one than it has seen.
        hub_epoch: u64,
        /// How many transfers will be offered again before [`ToNode::Ready`].
        pending: u32,
        /// The position up to which the hub holds the node's journal: the next range begins here.
        journal_acked: u64,
    },
    /// All open transfers of earlier connections have been offered again.
    Ready,
    /// A segment for the node. Its OUT is durable.
    Offer(Offer),
    /// Part of an offer's content.
    Chunk {
        /// The transfer's numbering.
        stream: Stream,
        /// The transfer's number.
        number: u64,
        /// Where in the content the bytes begin.
        offset: u32,
        /// At most [`CHUNK_BYTES_MAX`] bytes.
        bytes: Bytes,
    },
    /// All offers for a request are out.
    Answered {
        /// [`Stream::Bulk`] for a [`ToHub::Need`], [`Stream::Urgent`] for a [`ToHub::Urgent`].
        stream: Stream,
        /// The request.
        request: u64,
        /// How many PINs were offered for it; less than asked for: the hub has no more.
        granted: u32,
    },
    /// There is new stock of a variety: worth asking again.
    StockArrived {
        /// The variety.
        variety: VarietyId,
    },
    /// The hub holds the node's journal durably up to here. Sent after every range or group of ranges; one that does not
    /// move means that a range did not continue the archive: go on from here.
    JournalAcked {
        /// The position.
        position: u64,
    },
    /// The registry as it stands.
    Registry(Arc<Registry>),
    /// A change of it. The node answers [`ToHub::RegistryHeld`] when it is durable there, or with version 0 if it does not
    /// fit what it holds.
    RegistryDelta(Arc<Delta>),
    /// Give stock back: what is not sold, and no more than that.
    Recall {
        /// Names the recall within this connection; not 0.
        recall: u64,
        /// Of what.
        variety: VarietyId,
        /// How many PINs at most.
        count: u32,
    },
    /// How much of an offered content has arrived. What goes back has no content, so this says only that the offer came.
    Progress {
        /// The transfer's numbering.
        stream: Stream,
        /// The transfer's number.
        number: u64,
        /// Content bytes held, from the start, without gap.
        bytes: u32,
    },
    /// How a transfer to the hub ended. Durable at the hub.
    Answer {
        /// The transfer's numbering.
        stream: Stream,
        /// The transfer's number.
        number: u64,
        /// Whether the hub took the segment; otherwise it is the node's again.
        accepted: bool,
    },
    /// Whether the node is going offline: it asks for nothing then, sells nothing new, and gives all its stock back. Sent
    /// with every welcome and whenever it changes.
    Drain {
        /// Whether it is.
        on: bool,
    },
    /// The node was declared lost: from now on it sells nothing, hands in its journal and gives all its stock back, for good.
    /// Sent in place of [`ToNode::Drain`] with every welcome.
    Lost,
    /// The node's farewell is durable here: it may end.
    Farewell,
    /// The node has left the network: it answers nobody any more. The hub closes the link behind it.
    Closed,
    /// The journal that the node ships does not continue what the hub holds of it: the node runs on an old copy of its data
    /// directory, or its journal was damaged. It stops at once. The hub closes the link behind this.
    OldCopy,
    /// The nodes below this one, all of them. Sent with a welcome if there are any, and whenever that changes.
    Children(Arc<Vec<Child>>),
    /// What the hub says to a node below this one: [`ToNode::JournalAcked`], [`ToNode::Farewell`], [`ToNode::Closed`],
    /// [`ToNode::OldCopy`], [`ToNode::Asked`] or [`ToNode::Told`], nothing else.
    Below {
        /// To whom.
        node: SellerId,
        /// What.
        message: Box<ToNode>,
    },
}

/// A node below a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Child {
    /// Its number.
    pub node: SellerId,
    /// What operators call it: at most 40 bytes.
    pub name: String,
    /// Its node key, from which both ends derive those of its link with the server.
    pub key: TerminalKey,
    /// How the hub sees it.
    pub standing: ChildStanding,
    /// The highest number of a transfer from it that the hub's copy of its journal tells of, if it was declared lost; 0: none, or
    /// it was not.
    pub given: u64,
}

/// How the hub sees a node below a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum ChildStanding {
    /// It belongs to the network.
    #[default]
    Member = 0,
    /// It goes offline.
    Draining = 1,
    /// It has left: it has no link any more.
    Closed = 2,
    /// It was declared lost: it hands in its journal and gives back what it has, and gets nothing.
    Lost = 3,
}

impl ChildStanding {
    /// The standing that a byte stands for.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        let known = [Self::Member, Self::Draining, Self::Closed, Self::Lost];
        known.into_iter().find(|known| *known as u8 == byte)
    }

    /// Whether the node gives all it has back, and gets nothing.
    #[must_use]
    pub fn is_leaving(self) -> bool {
        matches!(self, Self::Draining | Self::Lost)
    }
}

/// One transfer as it is offered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Offer {
    /// Its numbering.
    pub stream: Stream,
    /// Its number on this link and stream, from 1, without gaps.
    pub number: u64,
    /// All numbers below this are settled at the giver: the taker may forget how they ended.
    pub settled_below: u64,
    /// The request it serves; 0 for one that is offered again.
    pub request: u64,
    /// What moves.
    pub span: Span,
    /// The ownership generation of the segment once taken.
    pub generation: u32,
    /// The properties of the block.
    pub properties: BlockProperties,
    /// PINs in the whole block.
    pub block_count: u32,
    /// The block's data key under the link's wrapping key.
    pub wrapped_key: WrappedKey,
    /// Size of the content: the segment's records.
    pub bytes: u32,
    /// xxh3 of the content.
    pub checksum: u64,
}

impl Offer {
    /// Offers what a transfer moves: the `records` of its span, of a block of `block_count` PINs with these properties.
    #[must_use]
    pub fn new(
        fact: &TransferFact,
        request: u64,
        properties: BlockProperties,
        block_count: u32,
        wrapped_key: WrappedKey,
        records: &[u8],
    ) -> Self {
        let TransferFact { stream, number, span, generation, settled_below, .. } = *fact;
        let (bytes, checksum) = (records.len() as u32, checksum(&[records]));
        Self {
            stream,
            number,
            settled_below,
            request,
            span,
            generation,
            properties,
            block_count,
            wrapped_key,
            bytes,
            checksum,
        }
    }

    /// What both ends record of it.
    #[must_use]
    pub fn fact(&self) -> TransferFact {
        TransferFact {
            stream: self.stream,
            number: self.number,
            span: self.span,
            generation: self.generation,
            variety: self.properties.variety,
            settled_below: self.settled_below,
        }
    }
}

/// Most bytes in one range of a journal.
pub const RANGE_BYTES_MAX: usize = 4 << 20;
/// Most content bytes in one chunk.
pub const CHUNK_BYTES_MAX: u32 = 60 * 1024;
/// Most chunks of one transfer that may be on their way without [`ToHub::Progress`].
pub const CHUNKS_IN_FLIGHT_MAX: u32 = 16;
