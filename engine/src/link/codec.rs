//! Link messages as bytes, and the channel of each. The bytes are in `spec/link.md`.
//!
//! # Which channel
//! What is long goes in bulk: content, journals, registries. The order between the channels is lost, so that whatever
//! must stay behind something goes where that goes, however short it is: the bulk offer and the answer that ends a request,
//! [`ToNode::Ready`] behind the offers before it, [`ToNode::StockArrived`] behind an answer that there is none. That answer
//! itself goes in bulk also when the question was urgent: a terminal that waits would be declined for good while the last PINs
//! are on their way to this very node. A node's own
//! offers have no content and go, with all that is said about them, on the control channel: there they stay in order with the
//! [`ToHub::Answer`]s and [`ToHub::Report`]s that count the same stock.

use super::fields::{Reader, Writer};
use super::{CHUNK_BYTES_MAX, Channel, RANGE_BYTES_MAX, ToHub, ToNode};
use crate::ids::SellerId;
use crate::journal::record::Stream;
use crate::registry::sealed::{decode_plain, encode_plain};
use bytes::Bytes;
use std::sync::Arc;

/// A message of one direction of a link.
pub trait LinkMessage: Sized + Send + 'static {
    /// Which connection of the link it travels on.
    fn channel(&self) -> Channel;

    /// Its bytes.
    fn encode(&self) -> Encoded;

    /// Reads the bytes of a message of this kind. Long content is not copied.
    ///
    /// # Errors
    /// [`NotUnderstood`]: the peer's fault.
    fn decode(kind: u16, body: Bytes) -> Result<Self, NotUnderstood>;

    /// Most bytes of a message of this kind; `None`: no message of this direction has it.
    fn bytes_max(kind: u16) -> Option<usize>;
}

/// A message as bytes: `head` and then `tail`.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// What it is.
    pub kind: u16,
    /// Its fields.
    pub head: Vec<u8>,
    /// Its content, where it lies.
    pub tail: Bytes,
}

impl Encoded {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn fields(kind: u16, fields: Writer) -> Self {
        Self { kind, head: fields.0, tail: Bytes::new() }
    }

    fn with_content(kind: u16, fields: Writer, content: Bytes) -> Self {
        Self { kind, head: fields.0, tail: content }
    }
}

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message is not understood: {0}")]
pub struct NotUnderstood(pub &'static str);

impl LinkMessage for ToHub {
    fn channel(&self) -> Channel {
        match self {
            Self::Journal { .. } => Channel::Bulk,
            Self::Hello { .. }
            | Self::Report(_)
            | Self::Need { .. }
            | Self::Urgent { .. }
            | Self::Progress { .. }
            | Self::Answer { .. }
            | Self::Offer(_)
            | Self::Ready
            | Self::Recalled { .. }
            | Self::Farewell { .. }
            | Self::Ask { .. }
            | Self::Told { .. }
            | Self::RegistryHeld { .. }
            | Self::BelowGone { .. } => Channel::Control,
            Self::Below { message, .. } => message.channel(),
        }
    }

    fn encode(&self) -> Encoded {
        let to = Writer::default();
        match self {
            Self::Hello {
                node,
                hub_epoch,
                journal_from,
                journal_mark,
                workers,
                registry_version,
                registry_digest,
            } => {
                let to = to.u32(node.0).u64(*hub_epoch).u64(*journal_from).u64(*journal_mark).u16(*workers);
                Encoded::fields(HELLO, to.u64(*registry_version).u64(*registry_digest))
            }
            Self::Report(report) => Encoded::fields(REPORT, to.report(report)),
            Self::Need { request, variety, count } => {
                Encoded::fields(NEED, to.u64(*request).u32(variety.0).u32(*count))
            }
            Self::Urgent { request, variety } => Encoded::fields(URGENT, to.u64(*request).u32(variety.0)),
            Self::Progress { stream, number, bytes } => {
                Encoded::fields(PROGRESS_UP, to.stream(*stream).u64(*number).u32(*bytes))
            }
            Self::Answer { stream, number, accepted } => {
                Encoded::fields(ANSWER_UP, to.stream(*stream).u64(*number).u8(u8::from(*accepted)))
            }
            Self::Journal { from, bytes } => Encoded::with_content(JOURNAL, to.u64(*from), bytes.clone()),
            Self::Offer(offer) => Encoded::fields(OFFER_UP, to.offer(offer)),
            Self::Ready => Encoded::fields(READY_UP, to),
            Self::Recalled { recall, count } => Encoded::fields(RECALLED, to.u64(*recall).u32(*count)),
            Self::Farewell { journal_end } => Encoded::fields(FAREWELL_UP, to.u64(*journal_end)),
            Self::Ask { question, seller, asked } => {
                Encoded::fields(ASK, to.u64(*question).u32(seller.0).asked(asked))
            }
            Self::Told { question, told } => Encoded::fields(TOLD_UP, to.u64(*question).told(told)),
            Self::RegistryHeld { version, digest } => {
                Encoded::fields(REGISTRY_HELD, to.u64(*version).u64(*digest))
            }
            Self::Below { node, message } => envelope(BELOW_UP, *node, message.encode()),
            Self::BelowGone { node } => Encoded::fields(BELOW_GONE, to.u32(node.0)),
        }
    }

    fn decode(kind: u16, body: Bytes) -> Result<Self, NotUnderstood> {
        let mut from = Reader::new(body);
        let message = match kind {
            HELLO => Self::Hello {
                node: SellerId(from.u32()?),
                hub_epoch: from.u64()?,
                journal_from: from.u64()?,
                journal_mark: from.u64()?,
                workers: from.u16()?,
                registry_version: from.u64()?,
                registry_digest: from.u64()?,
            },
            REPORT => Self::Report(from.report()?),
            NEED => Self::Need { request: from.u64()?, variety: from.variety()?, count: from.u32()? },
            URGENT => Self::Urgent { request: from.u64()?, variety: from.variety()? },
            PROGRESS_UP => Self::Progress { stream: from.stream()?, number: from.u64()?, bytes: from.u32()? },
            ANSWER_UP => Self::Answer { stream: from.stream()?, number: from.u64()?, accepted: from.flag()? },
            JOURNAL => Self::Journal { from: from.u64()?, bytes: from.rest() },
            OFFER_UP => Self::Offer(from.offer()?),
            READY_UP => Self::Ready,
            RECALLED => Self::Recalled { recall: from.u64()?, count: from.u32()? },
            FAREWELL_UP => Self::Farewell { journal_end: from.u64()? },
            ASK => Self::Ask { question: from.u64()?, seller: SellerId(from.u32()?), asked: from.asked()? },
            TOLD_UP => Self::Told { question: from.u64()?, told: from.told()? },
            REGISTRY_HELD => Self::RegistryHeld { version: from.u64()?, digest: from.u64()? },
            BELOW_UP => {
                let goes = |kind| {
                    matches!(kind, HELLO | REPORT | JOURNAL | REGISTRY_HELD | FAREWELL_UP | ASK | TOLD_UP)
                };
                let (node, message) = open_envelope(&mut from, goes)?;
                Self::Below { node, message }
            }
            BELOW_GONE => Self::BelowGone { node: SellerId(from.u32()?) },
            _ => return Err(NotUnderstood("no such kind goes to the hub")),
        };
        from.end()?;
        Ok(message)
    }

    fn bytes_max(kind: u16) -> Option<usize> {
        match kind {
            JOURNAL => Some(8 + RANGE_BYTES_MAX),
            REPORT => Some(REPORT_BYTES_MAX),
            BELOW_UP => Some(ENVELOPE_BYTES + 8 + RANGE_BYTES_MAX),
            HELLO..=BELOW_GONE => Some(SHORT_BYTES_MAX),
            _ => None,
        }
    }
}

impl LinkMessage for ToNode {
    fn channel(&self) -> Channel {
        let of_stream = |stream| match stream {
            Stream::Bulk => Channel::Bulk,
            Stream::Urgent => Channel::Control,
        };
        match self {
            Self::Offer(offer) => of_stream(offer.stream),
            // If nothing is granted, the offers before it may be of the very stock that is missed.
            Self::Answered { granted: 0, .. }
            | Self::Ready
            | Self::StockArrived { .. }
            | Self::Registry(_) => Channel::Bulk,
            Self::Chunk { stream, .. } | Self::Answered { stream, .. } => of_stream(*stream),
            // One that takes long must not keep waiting what is urgent; a node takes it in any order.
            Self::RegistryDelta(delta) if delta.rows() > DELTA_ROWS_SMALL => Channel::Bulk,
            Self::Welcome { .. }
            | Self::JournalAcked { .. }
            | Self::RegistryDelta(_)
            | Self::Recall { .. }
            | Self::Progress { .. }
            | Self::Answer { .. }
            | Self::Drain { .. }
            | Self::Lost
            | Self::Farewell
            | Self::Closed
            | Self::Asked { .. }
            | Self::Told { .. }
            | Self::OldCopy
            | Self::Children(_) => Channel::Control,
            Self::Below { message, .. } => message.channel(),
        }
    }

    fn encode(&self) -> Encoded {
        let to = Writer::default();
        match self {
            Self::Welcome { hub_epoch, pending, journal_acked } => {
                Encoded::fields(WELCOME, to.u64(*hub_epoch).u32(*pending).u64(*journal_acked))
            }
            Self::Ready => Encoded::fields(READY_DOWN, to),
            Self::Offer(offer) => Encoded::fields(OFFER_DOWN, to.offer(offer)),
            Self::Chunk { stream, number, offset, bytes } => {
                let to = to.stream(*stream).u64(*number).u32(*offset);
                Encoded::with_content(CHUNK, to, bytes.clone())
            }
            Self::Answered { stream, request, granted } => {
                Encoded::fields(ANSWERED, to.stream(*stream).u64(*request).u32(*granted))
            }
            Self::StockArrived { variety } => Encoded::fields(STOCK_ARRIVED, to.u32(variety.0)),
            Self::JournalAcked { position } => Encoded::fields(JOURNAL_ACKED, to.u64(*position)),
            Self::Registry(registry) => {
                Encoded::with_content(REGISTRY, to, Bytes::from_owner(encode_plain(&**registry)))
            }
            Self::RegistryDelta(delta) => {
                Encoded::with_content(REGISTRY_DELTA, to, Bytes::from_owner(encode_plain(&**delta)))
            }
            Self::Recall { recall, variety, count } => {
                Encoded::fields(RECALL, to.u64(*recall).u32(variety.0).u32(*count))
            }
            Self::Progress { stream, number, bytes } => {
                Encoded::fields(PROGRESS_DOWN, to.stream(*stream).u64(*number).u32(*bytes))
            }
            Self::Answer { stream, number, accepted } => {
                Encoded::fields(ANSWER_DOWN, to.stream(*stream).u64(*number).u8(u8::from(*accepted)))
            }
            Self::Drain { on } => Encoded::fields(DRAIN, to.u8(u8::from(*on))),
            Self::Lost => Encoded::fields(LOST, to),
            Self::Farewell => Encoded::fields(FAREWELL_DOWN, to),
            Self::Closed => Encoded::fields(CLOSED, to),
            Self::OldCopy => Encoded::fields(OLD_COPY, to),
            Self::Asked { question, asked } => Encoded::fields(ASKED, to.u64(*question).asked(asked)),
            Self::Told { question, told } => Encoded::fields(TOLD_DOWN, to.u64(*question).told(told)),
            Self::Children(children) => Encoded::fields(CHILDREN, to.children(children)),
            Self::Below { node, message } => envelope(BELOW_DOWN, *node, message.encode()),
        }
    }

    fn decode(kind: u16, body: Bytes) -> Result<Self, NotUnderstood> {
        let mut from = Reader::new(body);
        let message = match kind {
            WELCOME => {
                Self::Welcome { hub_epoch: from.u64()?, pending: from.u32()?, journal_acked: from.u64()? }
            }
            READY_DOWN => Self::Ready,
            OFFER_DOWN => Self::Offer(from.offer()?),
            CHUNK => {
                let (stream, number, offset) = (from.stream()?, from.u64()?, from.u32()?);
                Self::Chunk { stream, number, offset, bytes: from.rest() }
            }
            ANSWERED => Self::Answered { stream: from.stream()?, request: from.u64()?, granted: from.u32()? },
            STOCK_ARRIVED => Self::StockArrived { variety: from.variety()? },
            JOURNAL_ACKED => Self::JournalAcked { position: from.u64()? },
            REGISTRY => {
                let registry = decode_plain(&from.rest());
                Self::Registry(Arc::new(registry.map_err(|_| NotUnderstood("it is no registry"))?))
            }
            REGISTRY_DELTA => {
                let delta = decode_plain(&from.rest());
                Self::RegistryDelta(Arc::new(
                    delta.map_err(|_| NotUnderstood("it is no change of a registry"))?,
                ))
            }
            RECALL => Self::Recall { recall: from.u64()?, variety: from.variety()?, count: from.u32()? },
            PROGRESS_DOWN => {
                Self::Progress { stream: from.stream()?, number: from.u64()?, bytes: from.u32()? }
            }
            ANSWER_DOWN => {
                Self::Answer { stream: from.stream()?, number: from.u64()?, accepted: from.flag()? }
            }
            DRAIN => Self::Drain { on: from.flag()? },
            LOST => Self::Lost,
            CLOSED => Self::Closed,
            FAREWELL_DOWN => Self::Farewell,
            OLD_COPY => Self::OldCopy,
            ASKED => Self::Asked { question: from.u64()?, asked: from.asked()? },
            TOLD_DOWN => Self::Told { question: from.u64()?, told: from.told()? },
            CHILDREN => Self::Children(Arc::new(from.children()?)),
            BELOW_DOWN => {
                let goes = |kind| {
                    matches!(kind, JOURNAL_ACKED | FAREWELL_DOWN | CLOSED | OLD_COPY | ASKED | TOLD_DOWN)
                };
                let (node, message) = open_envelope(&mut from, goes)?;
                Self::Below { node, message }
            }
            _ => return Err(NotUnderstood("no such kind goes to a node")),
        };
        from.end()?;
        Ok(message)
    }

    fn bytes_max(kind: u16) -> Option<usize> {
        match kind {
            CHUNK => Some(CHUNK_HEAD_BYTES + CHUNK_BYTES_MAX as usize),
            REGISTRY | REGISTRY_DELTA => Some(REGISTRY_BYTES_MAX),
            CHILDREN => Some(CHILDREN_BYTES_MAX),
            WELCOME..=BELOW_DOWN => Some(SHORT_BYTES_MAX),
            _ => None,
        }
    }
}

/// A message about a node below the one at the end of the link.
fn envelope(kind: u16, node: SellerId, message: Encoded) -> Encoded {
    let fields = Writer::default().u32(node.0).u16(message.kind).bytes(&message.head);
    Encoded::with_content(kind, fields, message.tail)
}

/// What is in an envelope, if it is of a kind that `goes` in one.
fn open_envelope<M: LinkMessage>(
    from: &mut Reader,
    goes: impl Fn(u16) -> bool,
) -> Result<(SellerId, Box<M>), NotUnderstood> {
    let (node, kind, body) = (SellerId(from.u32()?), from.u16()?, from.rest());
    if !goes(kind) || M::bytes_max(kind).is_none_or(|most| body.len() > most) {
        return Err(NotUnderstood("what is in the envelope does not go in one, or is too long"));
    }
    Ok((node, Box::new(M::decode(kind, body)?)))
}

// Kinds of messages to the hub, without gap.
const HELLO: u16 = 0x0001;
const REPORT: u16 = 0x0002;
const NEED: u16 = 0x0003;
const URGENT: u16 = 0x0004;
const PROGRESS_UP: u16 = 0x0005;
const ANSWER_UP: u16 = 0x0006;
const JOURNAL: u16 = 0x0007;
const OFFER_UP: u16 = 0x0008;
const READY_UP: u16 = 0x0009;
const RECALLED: u16 = 0x000a;
const REGISTRY_HELD: u16 = 0x000b;
const FAREWELL_UP: u16 = 0x000c;
const ASK: u16 = 0x000d;
const TOLD_UP: u16 = 0x000e;
const BELOW_UP: u16 = 0x000f;
const BELOW_GONE: u16 = 0x0010;

// Kinds of messages to a node, without gap.
const WELCOME: u16 = 0x0101;
const READY_DOWN: u16 = 0x0102;
const OFFER_DOWN: u16 = 0x0103;
const CHUNK: u16 = 0x0104;
const ANSWERED: u16 = 0x0105;
const STOCK_ARRIVED: u16 = 0x0106;
const JOURNAL_ACKED: u16 = 0x0107;
const REGISTRY: u16 = 0x0108;
const RECALL: u16 = 0x0109;
const PROGRESS_DOWN: u16 = 0x010a;
const ANSWER_DOWN: u16 = 0x010b;
const DRAIN: u16 = 0x010c;
const REGISTRY_DELTA: u16 = 0x010d;
const LOST: u16 = 0x010e;
const CLOSED: u16 = 0x010f;
const FAREWELL_DOWN: u16 = 0x0110;
const OLD_COPY: u16 = 0x0111;
const ASKED: u16 = 0x0112;
const TOLD_DOWN: u16 = 0x0113;
const CHILDREN: u16 = 0x0114;
const BELOW_DOWN: u16 = 0x0115;

/// Rows of a change that goes over the control connection at most.
const DELTA_ROWS_SMALL: usize = 1_000;

/// Most bytes of a message without content: an offer is the longest.
const SHORT_BYTES_MAX: usize = 256;
/// Fields of an envelope before its content, in bytes.
const ENVELOPE_BYTES: usize = 4 + 2;
/// Most bytes of a list of nodes: some hundreds.
const CHILDREN_BYTES_MAX: usize = 64 << 10;
/// Fields of a chunk before its content, in bytes.
const CHUNK_HEAD_BYTES: usize = 1 + 8 + 4;
/// Most bytes of a report: some fifteen thousand varieties.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a registry: some two million terminals.
const REGISTRY_BYTES_MAX: usize = 512 << 20;

#[cfg(test)]
mod tests;
