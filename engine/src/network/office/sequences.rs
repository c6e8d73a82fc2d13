//! What the network's books say of every sequence, read from the journal: the hub's archive, and what it does not hold yet
//! from the seller's own.

use super::super::seller_node::SellerDesk;
use super::{Beyond, NotDone, Office};
use crate::hub::{HubError, read_archive};
use crate::ids::SellerId;
use crate::journal::batch::Batch;
use crate::journal::{JournalError, Position, Record, Shipment};
use crate::ledger::{SequenceFact, facts};
use std::collections::HashSet;

impl Office {
    /// Shows what the journal of a seller says of sequences, in order: from `since`, which is 0 or where a batch ends, to what is
    /// durable now. Of `terminals` only, if there are any. `take` gets up to a few thousand at a time and says whether
    /// it wants more. Returns the seller, which may be left out where there is only one, and the position up to which it
    /// was shown: of a seller elsewhere, that is what it has reported.
    ///
    /// # Errors
    /// [`NotDone`]; what was shown until then is right.
    pub fn sequences(
        &self,
        seller: Option<u32>,
        since: u64,
        terminals: &[u64],
        take: &mut dyn FnMut(Vec<SequenceFact>) -> bool,
    ) -> Result<(SellerId, u64), NotDone> {
        let wanted: HashSet<u64> = terminals.iter().copied().collect();
        let (seller, desk) = self.which(seller)?;
        // The hub answers for a lost one, or one that has left, from what it holds.
        let desk = desk.filter(|_| self.beyond(seller).is_ok_and(|beyond| beyond == Beyond::AskSeller));
        let end = match desk {
            Some(desk) => desk.reader.durable(),
            None => self.archived(seller)?,
        };
        if since > end.0 {
            return Err(NotDone::NoSuchPosition(since));
        }
        let (mut at, mut archived) = (Position(since), Position(0));
        let mut rows = Vec::new();
        while at < end {
            let shipment =
                self.read_journal(seller, desk, at, &mut archived).map_err(|error| match error {
                    // No batch begins at what the caller named; where the journal begins, that would be damage.
                    NotDone::Hub(HubError::ArchiveDamaged { .. })
                    | NotDone::Journal(JournalError::Corrupt { .. })
                        if at.0 == since && since > 0 =>
                    {
                        NotDone::NoSuchPosition(since)
                    }
                    error => error,
                })?;
            let Some(shipment) = shipment else { break };
            let (mut position, mut bytes) = (shipment.start, &shipment.bytes[..]);
            while let Some(batch) = Batch::parse(bytes, position) {
                for record in batch.records() {
                    let record = Record::decode(record).map_err(|source| JournalError::Record {
                        position: batch.end(),
                        source: source.into(),
                    })?;
                    facts(&record, |fact| {
                        if wanted.is_empty() || wanted.contains(&fact.terminal) {
                            rows.push(fact);
                        }
                    });
                    if rows.len() >= ROWS && !take(std::mem::take(&mut rows)) {
                        return Ok((seller, at.0));
                    }
                }
                bytes = &bytes[(batch.end().0 - position.0) as usize..];
                position = batch.end();
            }
            at = shipment.end;
        }
        if !rows.is_empty() {
            take(rows);
        }
        Ok((seller, at.0))
    }

    fn which(&self, number: Option<u32>) -> Result<(SellerId, Option<&SellerDesk>), NotDone> {
        if let Some(desk) = self.seller(number) {
            return Ok((desk.seller, Some(desk)));
        }
        let nodes: Vec<_> = self.ask(|hub| hub.nodes().map(|(node, _)| node).collect())?;
        match (number.map(SellerId), &nodes[..]) {
            (None, [only]) => Ok((*only, None)),
            (Some(number), nodes) if nodes.contains(&number) => Ok((number, None)),
            _ => {
                let numbers: Vec<_> = nodes.iter().map(|node| node.0.to_string()).collect();
                Err(NotDone::WhichSeller(numbers.join(", ")))
            }
        }
    }

    /// The durable batches that follow `at`, from wherever they are. `archived` remembers how far the hub's copy goes.
    fn read_journal(
        &self,
        seller: SellerId,
        desk: Option<&SellerDesk>,
        at: Position,
        archived: &mut Position,
    ) -> Result<Option<Shipment>, NotDone> {
        // A seller alone has what it has not given up.
        if let (Some(desk), None) = (desk, &self.desk.hub) {
            return Ok(desk.reader.read(at, READ_BYTES)?);
        }
        if at >= *archived {
            *archived = self.archived(seller)?;
        }
        if let Some(desk) = desk
            && at >= *archived
        {
            match desk.reader.read(at, READ_BYTES) {
                // It has just been given up, because the hub holds it.
                Err(JournalError::Recycled { .. }) => *archived = self.archived(seller)?,
                read => return Ok(read?),
            }
        }
        Ok(read_archive(&*self.hub()?.disk, seller, at, *archived, READ_BYTES)?)
    }

    fn archived(&self, seller: SellerId) -> Result<Position, NotDone> {
        Ok(Position(self.ask(move |hub| hub.journal_acked(seller))?.unwrap_or(0)))
    }
}

/// Journal bytes read at a time.
const READ_BYTES: usize = 4 << 20;
/// Rows shown at a time; a record adds at most 65 more.
const ROWS: usize = 2048;
