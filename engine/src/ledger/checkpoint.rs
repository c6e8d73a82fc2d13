//! Checkpoints: a ledger as a file, so that recovery need not read the journal from its beginning.
//!
//! A checkpoint is one file named after the journal position it folds up to, replaced whole. Layout in
//! `spec/journal.md`.

use super::{Below, Given, Holding, Ledger, PieceBelow, Spans, Taken};
use crate::disk::{Disk, DiskError};
use crate::ids::{BlockId, KeyEpoch, PinId, SellerId, Span, TerminalId, VarietyId};
use crate::journal::record::{RECORD_BYTES, TransferFact};
use crate::journal::{Position, Record};
use crate::planted::{self, Fault};
use crate::seller::{Answer, Window};
use std::sync::Arc;
use wire::message::{DeclineReason, SequenceState};
use xxhash_rust::xxh3::xxh3_64;

/// Writes and reads the checkpoints of one node.
pub struct Checkpoints<D> {
    disk: Arc<D>,
}

/// A checkpoint as it was read.
pub struct Checkpoint {
    /// What the journal below `position` comes to.
    pub ledger: Ledger,
    /// Where to read on.
    pub position: Position,
    /// The files of the history.
    pub runs: Vec<String>,
}

/// Why there is no checkpoint to start from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk said so.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is damaged: the journal below it may be recycled, so the node cannot start.
    #[error("{path} is damaged: restore it from a copy, or settle this node as lost")]
    Damaged {
        /// The file.
        path: String,
    },
}

impl<D: Disk> Checkpoints<D> {
    /// Checkpoints on this disk.
    #[must_use]
    pub fn new(disk: Arc<D>) -> Self {
        Self { disk }
    }

    /// The latest checkpoint; an empty ledger at position 0 if there never was one.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn load(&self) -> Result<Checkpoint, CheckpointError> {
        let Some(name) = self.disk.list(DIRECTORY)?.pop() else {
            return Ok(Checkpoint { ledger: Ledger::default(), position: Position(0), runs: Vec::new() });
        };
        let path = format!("{DIRECTORY}/{name}");
        let content = self.disk.open(&path)?;
        parse(content.as_ref()).ok_or(CheckpointError::Damaged { path })
    }

    /// Makes a checkpoint durable and then removes older ones.
    ///
    /// # Errors
    /// [`CheckpointError::Disk`]; the older one is still there then.
    pub fn write(&self, ledger: &Ledger, position: Position, runs: &[String]) -> Result<(), CheckpointError> {
        let body = encode(ledger, position, runs);
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&(body.len() as u64).to_le_bytes());
        header[16..24].copy_from_slice(&xxh3_64(&body).to_le_bytes());
        let name = format!("{:016x}.ckp", position.0);
        self.disk.write(&format!("{DIRECTORY}/{name}"), &[&header, &body])?;
        for old in self.disk.list(DIRECTORY)? {
            if old < name {
                self.disk.remove(&format!("{DIRECTORY}/{old}"))?;
            }
        }
        Ok(())
    }
}

fn encode(ledger: &Ledger, position: Position, runs: &[String]) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.u64(position.0);
    out.u64(ledger.reprints);
    out.u64(runs.len() as u64);
    for run in runs {
        out.u64(run.len() as u64);
        out.0.extend_from_slice(run.as_bytes());
    }
    ledger.taken.iter().for_each(|taken| out.taken(taken));
    ledger.given.iter().for_each(|given| out.given(given));
    out.u64(ledger.below.len() as u64);
    for (node, below) in &ledger.below {
        out.u64(u64::from(node.0));
        out.taken(&below.taken);
        below.given.iter().for_each(|given| out.given(given));
        out.u64(below.pieces().count() as u64);
        for piece in below.pieces() {
            out.transfer(piece.fact(), true);
        }
    }
    out.u64(ledger.inventory.holdings().count() as u64);
    for held in ledger.inventory.holdings() {
        out.u64(held.span.block.0);
        out.u64(u64::from(held.span.start));
        out.u64(u64::from(held.span.end));
        out.u64(u64::from(held.generation));
        out.u64(u64::from(held.variety.0));
        out.u64(u64::from(held.given));
        out.u64(u64::from(held.refused));
        out.u64(u64::from(held.from.0));
        for spans in [&held.sold, &held.withdrawn, &held.gone] {
            out.u64(spans.intervals().len() as u64);
            for (start, end) in spans.intervals() {
                out.u64(u64::from(*start) << 32 | u64::from(*end));
            }
        }
    }
    // Sorted, so that equal ledgers have equal checkpoints.
    let mut windows: Vec<_> = ledger.windows.iter().collect();
    windows.sort_unstable_by_key(|(terminal, _)| *terminal);
    out.u64(windows.len() as u64);
    for (terminal, window) in windows {
        out.u64(terminal.0);
        out.u64(u64::from(window.key_epoch().0));
        out.u64(window.next_sequence() - 1);
        out.u64(window.slots().len() as u64);
        for (answer, at_s) in window.slots() {
            let (pin, state, detail) = match answer {
                Answer::Sold { pin, state, copies } => (pin.0, state as u8, copies),
                Answer::Declined { reason, variety } => {
                    (u64::from(variety.0), SequenceState::Declined as u8, reason as u8)
                }
                Answer::Blocked => (0, SequenceState::Blocked as u8, 0),
                Answer::Open | Answer::Closed => (0, SequenceState::Open as u8, 0),
            };
            out.u64(pin);
            out.u64(u64::from(at_s) << 16 | u64::from(state) << 8 | u64::from(detail));
        }
    }
    out.0
}

fn parse(bytes: &[u8]) -> Option<Checkpoint> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    let mut fields = Reader(&header[8..24]);
    // Before the second version nothing was ever given, and before the third there was no node below.
    let says_below = &header[..8] == MAGIC;
    let says_given = says_below || &header[..8] == MAGIC_2;
    if !(says_given || &header[..8] == MAGIC_1)
        || fields.u64()? != body.len() as u64
        || fields.u64()? != xxh3_64(body)
    {
        return None;
    }
    let mut from = Reader(body);
    let position = Position(from.u64()?);
    let mut ledger = Ledger { reprints: from.u64()?, ..Ledger::default() };
    let runs = (0..from.u64()?).map(|_| from.text()).collect::<Option<_>>()?;
    for taken in &mut ledger.taken {
        *taken = from.taken()?;
    }
    for given in &mut ledger.given {
        *given = from.given()?;
    }
    for _ in 0..if says_below { from.u64()? } else { 0 } {
        let node = SellerId(from.u32()?);
        let mut below = Below::with(from.taken()?, [from.given()?, from.given()?]);
        for _ in 0..from.u64()? {
            below.insert(PieceBelow::of(&from.transfer()?.0));
        }
        ledger.below.insert(node, below);
    }
    for _ in 0..from.u64()? {
        let span = Span { block: BlockId(from.u64()?), start: from.u32()?, end: from.u32()? };
        let (generation, variety) = (from.u32()?, VarietyId(from.u32()?));
        let given = if says_given { from.u32()? } else { 0 };
        // It was not said apart: all that was given may have been refused.
        let refused = if says_below { from.u32()? } else { given };
        let came_from = SellerId(if says_below { from.u32()? } else { 0 });
        let mut spans = || {
            let mut spans = Spans::default();
            for _ in 0..from.u64()? {
                let interval = from.u64()?;
                spans.insert((interval >> 32) as u32, (interval & 0xffff_ffff) as u32);
            }
            Some(spans)
        };
        let (sold, withdrawn, gone) = (spans()?, spans()?, spans()?);
        ledger.inventory.insert(Holding {
            span,
            generation,
            variety,
            sold,
            withdrawn,
            gone,
            given,
            refused,
            from: came_from,
        });
    }
    for _ in 0..from.u64()? {
        let (terminal, key_epoch, top) = (TerminalId(from.u64()?), KeyEpoch(from.u32()?), from.u64()?);
        let slots = (0..from.u64()?).map(|_| from.slot()).collect::<Option<Vec<_>>>()?;
        ledger.windows.insert(terminal, Window::restore(key_epoch, top, slots));
    }
    from.0.is_empty().then_some(Checkpoint { ledger, position, runs })
}

struct Writer(Vec<u8>);

impl Writer {
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn taken(&mut self, taken: &Taken) {
        let forgets = |accepted: bool| !accepted && planted::is(Fault::ForgetRefused);
        let outcomes = taken.outcomes.values().filter(|(_, accepted)| !forgets(*accepted));
        self.u64(if planted::is(Fault::ForgetNumber) { 0 } else { taken.highest });
        self.u64(outcomes.clone().count() as u64);
        for (fact, accepted) in outcomes {
            self.transfer(*fact, *accepted);
        }
    }

    fn given(&mut self, given: &Given) {
        self.u64(if planted::is(Fault::ForgetNumber) { 0 } else { given.highest });
        self.u64(given.open.len() as u64);
        for fact in given.open.values() {
            self.transfer(*fact, false);
        }
    }

    fn transfer(&mut self, transfer: TransferFact, accepted: bool) {
        self.0.extend_from_slice(&Record::Settled { transfer, accepted }.encode());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u64(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }

    fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.u64()?).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u64()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn taken(&mut self) -> Option<Taken> {
        let mut taken = Taken { highest: self.u64()?, ..Taken::default() };
        for _ in 0..self.u64()? {
            let (fact, accepted) = self.transfer()?;
            taken.outcomes.insert(fact.number, (fact, accepted));
        }
        Some(taken)
    }

    fn given(&mut self) -> Option<Given> {
        let mut given = Given { highest: self.u64()?, ..Given::default() };
        for _ in 0..self.u64()? {
            let (fact, _) = self.transfer()?;
            given.open.insert(fact.number, fact);
        }
        Some(given)
    }

    fn transfer(&mut self) -> Option<(TransferFact, bool)> {
        let (bytes, rest) = self.0.split_first_chunk::<RECORD_BYTES>()?;
        self.0 = rest;
        match Record::decode(bytes) {
            Ok(Record::Settled { transfer, accepted }) => Some((transfer, accepted)),
            _ => None,
        }
    }

    fn slot(&mut self) -> Option<(Answer, u32)> {
        let (pin, packed) = (self.u64()?, self.u64()?);
        let (state, detail) = ((packed >> 8) as u8, packed as u8);
        let sold = |state| Answer::Sold { pin: PinId(pin), state, copies: detail };
        let answer = match state {
            0 => Answer::Open,
            1 => sold(SequenceState::Sold),
            2 => sold(SequenceState::Confirmed),
            3 => sold(SequenceState::Voided),
            4 => Answer::Declined {
                reason: DeclineReason::from_byte(detail)?,
                variety: VarietyId(u32::try_from(pin).ok()?),
            },
            5 => Answer::Blocked,
            _ => return None,
        };
        Some((answer, u32::try_from(packed >> 16).ok()?))
    }
}

const DIRECTORY: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"PWCKPT03";
const MAGIC_2: &[u8; 8] = b"PWCKPT02";
const MAGIC_1: &[u8; 8] = b"PWCKPT01";
const HEADER_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::heap::HeapDisk;
    use crate::journal::record::{Stream, TransferStep, VendName, WithdrawReason};

    #[test]
    fn a_checkpoint_forgets_nothing() {
        let vend = |sequence| VendName { terminal: TerminalId(9), key_epoch: KeyEpoch(2), sequence };
        let (block, variety, at_ms) = (BlockId(7), VarietyId(3), 1_800_000_000_000);
        let span = |start, end| Span { block, start, end };
        let fact = |number, span| TransferFact {
            stream: Stream::Bulk,
            number,
            span,
            generation: 4,
            variety,
            settled_below: 1,
        };
        let out = |number, span, generation| TransferFact { generation, ..fact(number, span) };
        let below = |step| Record::Below { node: SellerId(5), step };
        let pin = |index| PinId::new(block, index);
        let sold = |sequence| Record::Sold {
            vend: vend(sequence),
            pin: pin(sequence as u16),
            variety,
            confirmed: 0,
            at_ms,
        };
        let records = [
            Record::Refused(fact(1, span(0, 50))),
            Record::Received(fact(2, span(0, 100))),
            sold(1),
            sold(2),
            sold(3),
            Record::Confirmed { vend: vend(4), confirmed: 1, at_ms },
            Record::Voided { vend: vend(2), pin: pin(2), variety, at_ms },
            Record::Reprinted { vend: vend(3), pin: pin(3), at_ms },
            Record::Declined {
                vend: vend(5),
                reason: DeclineReason::OutOfStock,
                variety,
                confirmed: 0,
                at_ms,
            },
            Record::Blocked { vend: vend(6), at_ms },
            Record::Withdrawn { span: span(10, 20), variety, reason: WithdrawReason::Expired, at_ms },
            Record::Given(out(1, span(90, 95), 5)),
            Record::Given(out(2, span(95, 100), 6)),
            Record::Settled { transfer: out(2, span(95, 100), 6), accepted: true },
            below(TransferStep::Given(out(1, span(60, 90), 7))),
            below(TransferStep::Settled { transfer: out(1, span(60, 90), 7), accepted: true }),
            below(TransferStep::Given(out(2, span(50, 60), 8))),
            below(TransferStep::Received(out(1, span(70, 80), 9))),
            below(TransferStep::Refused(out(2, span(80, 90), 9))),
        ];
        let mut ledger = Ledger::default();
        for record in &records {
            ledger.apply(record, |_, _| {}).unwrap();
        }
        let checkpoints = Checkpoints::new(Arc::new(HeapDisk::new()));
        checkpoints.write(&ledger, Position(640), &["history/1.run".to_owned()]).unwrap();
        let read = checkpoints.load().unwrap();
        assert_eq!((read.position, &*read.runs), (Position(640), &["history/1.run".to_owned()][..]));
        assert_eq!(read.ledger, ledger);
        assert!(!ledger.taken(Stream::Bulk).outcomes[&1].1, "a refusal too");
    }
}
