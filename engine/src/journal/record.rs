//! The facts a node makes durable, 64 bytes each.
//!
//! `spec/journal.md` draws every kind; integers are little-endian.

use crate::ids::{BlockId, KeyEpoch, PinId, SellerId, Span, TerminalId, VarietyId};
use wire::message::DeclineReason;

/// Size of every record.
pub const RECORD_BYTES: usize = 64;

/// A record as it lies in the journal.
pub type RecordBytes = [u8; RECORD_BYTES];

/// One fact.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Record {
    /// A PIN was sold for a sequence.
    Sold {
        /// Whose sequence.
        vend: VendName,
        /// The PIN.
        pin: PinId,
        /// Its variety.
        variety: VarietyId,
        /// Bit `i`: sequence `vend.sequence - 1 - i` is confirmed as well.
        confirmed: u64,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// A sequence ended without a PIN.
    Declined {
        /// Whose sequence.
        vend: VendName,
        /// Why.
        reason: DeclineReason,
        /// What was asked for; 0 if there is no such variety.
        variety: VarietyId,
        /// Bit `i`: sequence `vend.sequence - 1 - i` is confirmed as well.
        confirmed: u64,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// Sold sequences were printed: bit `i` of `confirmed` stands for sequence `vend.sequence - 1 - i`.
    Confirmed {
        /// One past the highest sequence that is confirmed.
        vend: VendName,
        /// Which.
        confirmed: u64,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// A sold sequence was voided: its PIN is withdrawn.
    Voided {
        /// Whose sequence.
        vend: VendName,
        /// The PIN.
        pin: PinId,
        /// Its variety.
        variety: VarietyId,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// A sequence was voided before it was sold: it never will be.
    Blocked {
        /// Whose sequence.
        vend: VendName,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// A sold sequence was printed once more.
    Reprinted {
        /// Whose sequence.
        vend: VendName,
        /// The PIN.
        pin: PinId,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// PINs left the stock unsold, for ever.
    Withdrawn {
        /// Which.
        span: Span,
        /// Their variety.
        variety: VarietyId,
        /// Why.
        reason: WithdrawReason,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// IN: a segment became this node's own.
    Received(TransferFact),
    /// A segment that was offered is not taken; it stays the giver's.
    Refused(TransferFact),
    /// OUT: a segment is this node's no longer.
    Given(TransferFact),
    /// The taker's durable answer to an OUT arrived: `accepted`, or the segment is this node's again.
    Settled {
        /// The OUT.
        transfer: TransferFact,
        /// Whether the taker took it.
        accepted: bool,
    },
    /// A step of a transfer to or from a node below this one. All others are of transfers with upstream.
    Below {
        /// The node below.
        node: SellerId,
        /// The step.
        step: TransferStep,
    },
}

/// What one end of a link records of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransferStep {
    /// IN: as [`Record::Received`].
    Received(TransferFact),
    /// As [`Record::Refused`].
    Refused(TransferFact),
    /// OUT: as [`Record::Given`].
    Given(TransferFact),
    /// As [`Record::Settled`].
    Settled {
        /// The OUT.
        transfer: TransferFact,
        /// Whether the taker took it.
        accepted: bool,
    },
}

impl TransferStep {
    /// The step of a transfer with upstream that a record tells of, if it tells of one.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        match *record {
            Record::Received(fact) => Some(Self::Received(fact)),
            Record::Refused(fact) => Some(Self::Refused(fact)),
            Record::Given(fact) => Some(Self::Given(fact)),
            Record::Settled { transfer, accepted } => Some(Self::Settled { transfer, accepted }),
            _ => None,
        }
    }

    /// The record of this step of a transfer with upstream.
    #[must_use]
    pub fn upstream(self) -> Record {
        match self {
            Self::Received(fact) => Record::Received(fact),
            Self::Refused(fact) => Record::Refused(fact),
            Self::Given(fact) => Record::Given(fact),
            Self::Settled { transfer, accepted } => Record::Settled { transfer, accepted },
        }
    }
}

/// Names a sale at this seller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct VendName {
    /// The terminal.
    pub terminal: TerminalId,
    /// The terminal's key epoch, which starts a numbering of its own.
    pub key_epoch: KeyEpoch,
    /// The number.
    pub sequence: u64,
}

/// Why PINs were withdrawn.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum WithdrawReason {
    /// Past its last day, or too close to it.
    Expired = 1,
    /// It did not open under its block's key.
    Damaged = 2,
    /// Sold, then voided.
    Voided = 3,
}

/// Transfers with separate numbers, so that urgent ones never wait for bulk ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Stream {
    /// Segments in bulk, by watermark.
    Bulk = 0,
    /// One PIN that a terminal is waiting for.
    Urgent = 1,
}

/// One transfer as either end records it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransferFact {
    /// Its numbering.
    pub stream: Stream,
    /// Its number on the link, from 1, without gaps.
    pub number: u64,
    /// What moves.
    pub span: Span,
    /// The ownership generation of the segment once taken.
    pub generation: u32,
    /// The variety of the block.
    pub variety: VarietyId,
    /// All numbers below this are settled at the giver: the taker may forget how they ended.
    pub settled_below: u64,
}

/// Why bytes are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("record of kind {kind} is not understood")]
pub struct UnknownRecord {
    /// The kind byte found.
    pub kind: u8,
}

impl Record {
    /// The bytes for the journal.
    #[must_use]
    pub fn encode(&self) -> RecordBytes {
        let mut bytes = [0; RECORD_BYTES];
        match *self {
            Self::Sold { vend, pin, variety, confirmed, at_ms } => {
                bytes[KIND] = SOLD;
                put_vend(&mut bytes, vend, variety, confirmed, at_ms);
                put_u64(&mut bytes, PIN, pin.0);
            }
            Self::Declined { vend, reason, variety, confirmed, at_ms } => {
                bytes[KIND] = DECLINED;
                bytes[DETAIL] = reason as u8;
                put_vend(&mut bytes, vend, variety, confirmed, at_ms);
            }
            Self::Confirmed { vend, confirmed, at_ms } => {
                bytes[KIND] = CONFIRMED;
                put_vend(&mut bytes, vend, VarietyId(0), confirmed, at_ms);
            }
            Self::Voided { vend, pin, variety, at_ms } => {
                bytes[KIND] = VOIDED;
                put_vend(&mut bytes, vend, variety, 0, at_ms);
                put_u64(&mut bytes, PIN, pin.0);
            }
            Self::Blocked { vend, at_ms } => {
                bytes[KIND] = BLOCKED;
                put_vend(&mut bytes, vend, VarietyId(0), 0, at_ms);
            }
            Self::Reprinted { vend, pin, at_ms } => {
                bytes[KIND] = REPRINTED;
                put_vend(&mut bytes, vend, VarietyId(0), 0, at_ms);
                put_u64(&mut bytes, PIN, pin.0);
            }
            Self::Withdrawn { span, variety, reason, at_ms } => {
                bytes[KIND] = WITHDRAWN;
                bytes[DETAIL] = reason as u8;
                put_span(&mut bytes, span, variety);
                put_u64(&mut bytes, AT_MS, at_ms);
            }
            Self::Received(fact) => put_transfer(&mut bytes, RECEIVED, fact),
            Self::Refused(fact) => put_transfer(&mut bytes, REFUSED, fact),
            Self::Given(fact) => put_transfer(&mut bytes, GIVEN, fact),
            Self::Settled { transfer, accepted } => {
                put_transfer(&mut bytes, SETTLED, transfer);
                bytes[OUTCOME] = u8::from(accepted);
            }
            Self::Below { node, step } => {
                bytes = step.upstream().encode();
                bytes[KIND] += BELOW;
                put_u32(&mut bytes, NODE, node.0);
            }
        }
        bytes
    }

    /// The sequence that the fact is about, if it is about one.
    #[must_use]
    pub fn vend(&self) -> Option<VendName> {
        match *self {
            Self::Sold { vend, .. }
            | Self::Declined { vend, .. }
            | Self::Confirmed { vend, .. }
            | Self::Voided { vend, .. }
            | Self::Blocked { vend, .. }
            | Self::Reprinted { vend, .. } => Some(vend),
            Self::Withdrawn { .. }
            | Self::Received(_)
            | Self::Refused(_)
            | Self::Given(_)
            | Self::Settled { .. }
            | Self::Below { .. } => None,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`UnknownRecord`] for bytes that no version of this code has written.
    pub fn decode(bytes: &RecordBytes) -> Result<Self, UnknownRecord> {
        let unknown = UnknownRecord { kind: bytes[KIND] };
        let vend = VendName {
            terminal: TerminalId(read_u64(bytes, TERMINAL)),
            key_epoch: KeyEpoch(read_u32(bytes, KEY_EPOCH)),
            sequence: read_u64(bytes, SEQUENCE),
        };
        let variety = VarietyId(read_u32(bytes, VARIETY));
        let confirmed = read_u64(bytes, CONFIRMED_BITS);
        let at_ms = read_u64(bytes, AT_MS);
        let pin = PinId(read_u64(bytes, PIN));
        let span = Span {
            block: BlockId(read_u64(bytes, BLOCK)),
            start: read_u32(bytes, SPAN_START),
            end: read_u32(bytes, SPAN_END),
        };
        Ok(match bytes[KIND] {
            SOLD => Self::Sold { vend, pin, variety, confirmed, at_ms },
            DECLINED => {
                let reason = DeclineReason::from_byte(bytes[DETAIL]).ok_or(unknown)?;
                Self::Declined { vend, reason, variety, confirmed, at_ms }
            }
            CONFIRMED => Self::Confirmed { vend, confirmed, at_ms },
            VOIDED => Self::Voided { vend, pin, variety, at_ms },
            BLOCKED => Self::Blocked { vend, at_ms },
            REPRINTED => Self::Reprinted { vend, pin, at_ms },
            WITHDRAWN => {
                let reason = match bytes[DETAIL] {
                    1 => WithdrawReason::Expired,
                    2 => WithdrawReason::Damaged,
                    3 => WithdrawReason::Voided,
                    _ => return Err(unknown),
                };
                Self::Withdrawn { span, variety, reason, at_ms }
            }
            kind @ (RECEIVED | REFUSED | GIVEN | SETTLED) => {
                let transfer = TransferFact {
                    stream: match bytes[DETAIL] {
                        0 => Stream::Bulk,
                        1 => Stream::Urgent,
                        _ => return Err(unknown),
                    },
                    number: read_u64(bytes, NUMBER),
                    span,
                    generation: read_u32(bytes, GENERATION),
                    variety,
                    settled_below: read_u64(bytes, SETTLED_BELOW),
                };
                match kind {
                    RECEIVED => Self::Received(transfer),
                    REFUSED => Self::Refused(transfer),
                    GIVEN => Self::Given(transfer),
                    _ => Self::Settled { transfer, accepted: bytes[OUTCOME] == 1 },
                }
            }
            RECEIVED_BELOW..=SETTLED_BELOW_US => {
                let mut plain = *bytes;
                plain[KIND] -= BELOW;
                let step = TransferStep::of(&Self::decode(&plain).map_err(|_| unknown)?).ok_or(unknown)?;
                Self::Below { node: SellerId(read_u32(bytes, NODE)), step }
            }
            _ => return Err(unknown),
        })
    }
}

/// The terminal that a record is about; for one that is about none, any number.
pub(crate) fn terminal_of(bytes: &RecordBytes) -> TerminalId {
    TerminalId(read_u64(bytes, TERMINAL))
}

fn put_vend(bytes: &mut RecordBytes, vend: VendName, variety: VarietyId, confirmed: u64, at_ms: u64) {
    put_u32(bytes, VARIETY, variety.0);
    put_u64(bytes, TERMINAL, vend.terminal.0);
    put_u64(bytes, SEQUENCE, vend.sequence);
    put_u32(bytes, KEY_EPOCH, vend.key_epoch.0);
    put_u64(bytes, CONFIRMED_BITS, confirmed);
    put_u64(bytes, AT_MS, at_ms);
}

fn put_span(bytes: &mut RecordBytes, span: Span, variety: VarietyId) {
    put_u32(bytes, VARIETY, variety.0);
    put_u64(bytes, BLOCK, span.block.0);
    put_u32(bytes, SPAN_START, span.start);
    put_u32(bytes, SPAN_END, span.end);
}

fn put_transfer(bytes: &mut RecordBytes, kind: u8, fact: TransferFact) {
    bytes[KIND] = kind;
    bytes[DETAIL] = fact.stream as u8;
    put_span(bytes, fact.span, fact.variety);
    put_u64(bytes, NUMBER, fact.number);
    put_u32(bytes, GENERATION, fact.generation);
    put_u64(bytes, SETTLED_BELOW, fact.settled_below);
}

fn put_u64(bytes: &mut RecordBytes, at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn put_u32(bytes: &mut RecordBytes, at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn read_u64(bytes: &RecordBytes, at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn read_u32(bytes: &RecordBytes, at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

const SOLD: u8 = 1;
const DECLINED: u8 = 2;
const CONFIRMED: u8 = 3;
const VOIDED: u8 = 4;
const BLOCKED: u8 = 5;
const REPRINTED: u8 = 6;
const WITHDRAWN: u8 = 7;
const RECEIVED: u8 = 8;
const REFUSED: u8 = 9;
const GIVEN: u8 = 10;
const SETTLED: u8 = 11;
/// The same steps with a node below: from 12, received, to 15, settled.
const BELOW: u8 = 4;
const RECEIVED_BELOW: u8 = RECEIVED + BELOW;
const SETTLED_BELOW_US: u8 = SETTLED + BELOW;

// All kinds:  0 kind, 1 detail (reason or stream), 2..4 zero, 4 variety.
// Of a vend:  8 terminal, 16 sequence, 24 confirmed, 32 pin, 40 key epoch, 44..48 zero, 48 time, 56..64 zero.
// Of a span:  8 block, 16 start, 20 end; withdrawn: 48 time;
//             transfer: 24 number, 32 settled below, 40 generation, 44 outcome, 48 node (u32) if with a node below.
const KIND: usize = 0;
const DETAIL: usize = 1;
const VARIETY: usize = 4;
const TERMINAL: usize = 8;
const SEQUENCE: usize = 16;
const CONFIRMED_BITS: usize = 24;
const PIN: usize = 32;
const KEY_EPOCH: usize = 40;
const AT_MS: usize = 48;
const BLOCK: usize = 8;
const SPAN_START: usize = 16;
const SPAN_END: usize = 20;
const NUMBER: usize = 24;
const SETTLED_BELOW: usize = 32;
const GENERATION: usize = 40;
const OUTCOME: usize = 44;
const NODE: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_record_survives_the_journal() {
        let vend = VendName { terminal: TerminalId(7), key_epoch: KeyEpoch(2), sequence: u64::MAX };
        let pin = PinId::new(BlockId(9), 65_535);
        let variety = VarietyId(3);
        let span = Span { block: BlockId(9), start: 5, end: 65_536 };
        let transfer = TransferFact {
            stream: Stream::Urgent,
            number: 12,
            span,
            generation: 4,
            variety,
            settled_below: 11,
        };
        let (confirmed, at_ms) = (u64::MAX - 1, 1_700_000_000_123);
        for record in [
            Record::Sold { vend, pin, variety, confirmed, at_ms },
            Record::Declined { vend, reason: DeclineReason::OutOfStock, variety, confirmed, at_ms },
            Record::Confirmed { vend, confirmed, at_ms },
            Record::Voided { vend, pin, variety, at_ms },
            Record::Blocked { vend, at_ms },
            Record::Reprinted { vend, pin, at_ms },
            Record::Withdrawn { span, variety, reason: WithdrawReason::Damaged, at_ms },
            Record::Received(transfer),
            Record::Refused(transfer),
            Record::Given(transfer),
            Record::Settled { transfer, accepted: true },
            Record::Settled { transfer, accepted: false },
            Record::Below { node: SellerId(5), step: TransferStep::Received(transfer) },
            Record::Below { node: SellerId(6), step: TransferStep::Refused(transfer) },
            Record::Below { node: SellerId(7), step: TransferStep::Given(transfer) },
            Record::Below { node: SellerId(8), step: TransferStep::Settled { transfer, accepted: true } },
            Record::Below { node: SellerId(9), step: TransferStep::Settled { transfer, accepted: false } },
        ] {
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
        assert_eq!(Record::decode(&[0; RECORD_BYTES]), Err(UnknownRecord { kind: 0 }));
    }
}
