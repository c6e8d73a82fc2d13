//! Fields of link messages as bytes: little-endian, without padding.

use super::{Asked, Child, ChildStanding, NotUnderstood, Offer, Report, StockReport, Told};
use crate::ids::{BatchId, BlockId, KeyEpoch, SellerId, Span, TerminalId, VarietyId};
use crate::journal::record::{Stream, VendName};
use crate::policy::{Levels, Rate};
use crate::registry::TerminalKey;
use crate::stock::{BLOCK_PINS_MAX, BlockProperties, Expiry};
use bytes::Bytes;
use wire::message::{SequenceState, SettleAction};
use wire::session::Suite;
use wire::settlement::SoldBox;

/// Appends fields.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn stream(self, stream: Stream) -> Self {
        self.u8(stream as u8)
    }

    pub(super) fn offer(self, offer: &Offer) -> Self {
        let Offer { span, properties, .. } = offer;
        self.stream(offer.stream)
            .u64(offer.number)
            .u64(offer.settled_below)
            .u64(offer.request)
            .u64(span.block.0)
            .u32(span.start)
            .u32(span.end)
            .u32(offer.generation)
            .u64(properties.block.0)
            .u32(properties.variety.0)
            .u64(properties.batch.0)
            .u32(properties.expiry.0)
            .u32(offer.block_count)
            .bytes(&offer.wrapped_key)
            .u32(offer.bytes)
            .u64(offer.checksum)
    }

    pub(super) fn asked(self, asked: &Asked) -> Self {
        let Asked { vend, action, suite } = asked;
        let to = self.u64(vend.terminal.0).u32(vend.key_epoch.0).u64(vend.sequence);
        to.u8(*action as u8).u8(*suite as u8)
    }

    pub(super) fn told(self, told: &Told) -> Self {
        let to = self.u8(told.state as u8).u64(told.reference);
        let sealed = told.sealed.as_bytes();
        to.u8(u8::try_from(sealed.len()).expect("a box is short")).bytes(sealed)
    }

    pub(super) fn report(self, report: &Report) -> Self {
        let count = u32::try_from(report.stock.len()).expect("a registry has fewer varieties");
        let head = self.u64(report.journal_end).u32(report.returns_open).u32(count);
        report.stock.iter().fold(head, Self::stock)
    }

    pub(super) fn children(self, children: &[Child]) -> Self {
        let count = u32::try_from(children.len()).expect("a server has few nodes below it");
        children.iter().fold(self.u32(count), |to, child| {
            let name = child.name.as_bytes();
            let length = u8::try_from(name.len()).expect("a node's name is short");
            let to = to.u32(child.node.0).u8(child.standing as u8).u64(child.given);
            to.bytes(child.key.expose()).u8(length).bytes(name)
        })
    }

    fn stock(self, stock: &StockReport) -> Self {
        self.u32(stock.variety.0)
            .u64(stock.on_hand)
            .u64(stock.recalling)
            .u8(u8::from(stock.room.is_some()))
            .u64(stock.room.unwrap_or(0))
            .u64(stock.rate.0)
            .u64(stock.levels.low())
            .u64(stock.levels.target())
            .u64(stock.levels.high())
            .u64(stock.sold_total)
    }
}

/// Takes fields from the front of a peer's bytes.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], NotUnderstood> {
        let array = *self.rest.first_chunk::<N>().ok_or(NotUnderstood("it is too short"))?;
        let _ = self.rest.split_to(N);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, NotUnderstood> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, NotUnderstood> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, NotUnderstood> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, NotUnderstood> {
        self.array().map(u64::from_le_bytes)
    }

    /// Everything that is left, not copied.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn end(&self) -> Result<(), NotUnderstood> {
        self.rest.is_empty().then_some(()).ok_or(NotUnderstood("it is too long"))
    }

    pub(super) fn flag(&mut self) -> Result<bool, NotUnderstood> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(NotUnderstood("a flag is neither 0 nor 1")),
        }
    }

    pub(super) fn stream(&mut self) -> Result<Stream, NotUnderstood> {
        Ok(if self.flag()? { Stream::Urgent } else { Stream::Bulk })
    }

    pub(super) fn variety(&mut self) -> Result<VarietyId, NotUnderstood> {
        self.u32().map(VarietyId)
    }

    pub(super) fn offer(&mut self) -> Result<Offer, NotUnderstood> {
        let stream = self.stream()?;
        let (number, settled_below, request) = (self.u64()?, self.u64()?, self.u64()?);
        let span = Span { block: self.block()?, start: self.u32()?, end: self.u32()? };
        // Everybody may take the length of a span.
        if span.start >= span.end || span.end > BLOCK_PINS_MAX {
            return Err(NotUnderstood("a span is empty, reversed or longer than a block"));
        }
        let generation = self.u32()?;
        let (block, variety) = (self.block()?, self.variety()?);
        let (batch, expiry) = (BatchId(self.u64()?), Expiry(self.u32()?));
        let properties = BlockProperties { block, variety, batch, expiry };
        Ok(Offer {
            stream,
            number,
            settled_below,
            request,
            span,
            generation,
            properties,
            block_count: self.u32()?,
            wrapped_key: self.array()?,
            bytes: self.u32()?,
            checksum: self.u64()?,
        })
    }

    pub(super) fn asked(&mut self) -> Result<Asked, NotUnderstood> {
        let (terminal, key_epoch) = (TerminalId(self.u64()?), KeyEpoch(self.u32()?));
        let vend = VendName { terminal, key_epoch, sequence: self.u64()? };
        let action = SettleAction::from_byte(self.u8()?).ok_or(NotUnderstood("it asks for nothing known"))?;
        let suite = Suite::from_byte(self.u8()?).ok_or(NotUnderstood("a suite is unknown"))?;
        Ok(Asked { vend, action, suite })
    }

    pub(super) fn told(&mut self) -> Result<Told, NotUnderstood> {
        let state = SequenceState::from_byte(self.u8()?).ok_or(NotUnderstood("a state is unknown"))?;
        let (reference, length) = (self.u64()?, usize::from(self.u8()?));
        let sealed = self.rest.get(..length).ok_or(NotUnderstood("it is too short"))?;
        let sealed = SoldBox::from_bytes(sealed).map_err(|_| NotUnderstood("a box is too long"))?;
        let _ = self.rest.split_to(length);
        Ok(Told { state, reference, sealed })
    }

    pub(super) fn report(&mut self) -> Result<Report, NotUnderstood> {
        let (journal_end, returns_open, count) = (self.u64()?, self.u32()?, self.u32()?);
        if self.rest.len() != count as usize * STOCK_BYTES {
            return Err(NotUnderstood("a report has another length than its count says"));
        }
        let stock = (0..count).map(|_| self.stock()).collect::<Result<_, _>>()?;
        Ok(Report { journal_end, returns_open, stock })
    }

    pub(super) fn children(&mut self) -> Result<Vec<Child>, NotUnderstood> {
        let count = self.u32()?;
        // A peer's count says nothing of how much there is.
        let mut children = Vec::new();
        for _ in 0..count {
            let node = SellerId(self.u32()?);
            let standing = ChildStanding::from_byte(self.u8()?);
            let standing = standing.ok_or(NotUnderstood("a node's standing is unknown"))?;
            let given = self.u64()?;
            let key = TerminalKey::new(self.array()?);
            let length = usize::from(self.u8()?);
            if length > self.rest.len() {
                return Err(NotUnderstood("it is too short"));
            }
            let name = String::from_utf8(self.rest.split_to(length).to_vec());
            let name = name.map_err(|_| NotUnderstood("a node's name is no text"))?;
            children.push(Child { node, name, key, standing, given });
        }
        Ok(children)
    }

    fn stock(&mut self) -> Result<StockReport, NotUnderstood> {
        let (variety, on_hand, recalling) = (self.variety()?, self.u64()?, self.u64()?);
        let (is_room_known, room, rate) = (self.flag()?, self.u64()?, Rate(self.u64()?));
        if !is_room_known && room != 0 {
            return Err(NotUnderstood("a room that is not known is not 0"));
        }
        let levels = Levels::new(self.u64()?, self.u64()?, self.u64()?);
        let levels = levels.map_err(|_| NotUnderstood("marks are out of order"))?;
        let (room, sold_total) = (is_room_known.then_some(room), self.u64()?);
        Ok(StockReport { variety, on_hand, recalling, room, rate, levels, sold_total })
    }

    fn block(&mut self) -> Result<BlockId, NotUnderstood> {
        let block = self.u64()?;
        if block >= 1 << 48 {
            return Err(NotUnderstood("a block number has more than 48 bits"));
        }
        Ok(BlockId(block))
    }
}

/// What is said of one variety, in bytes.
const STOCK_BYTES: usize = 4 + 8 + 8 + 1 + 8 + 8 + 3 * 8 + 8;
