//! What lost nodes held, and which nodes have left, in SQLite.

use super::{signed, table, unsigned};
use crate::hub::books::Fate;
use crate::hub::doubts::{DoubtRow, DoubtState};
use crate::hub::store::StoreError;
use crate::ids::{BlockId, SellerId, Span};
use rusqlite::{Connection, Row, Transaction, params};
use std::collections::BTreeMap;

/// Brings the table of what is in doubt, and what nodes and pieces say of lost nodes.
pub(super) const MIGRATION: &str = "
    ALTER TABLE node ADD COLUMN fate INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE node ADD COLUMN fate_at_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE node ADD COLUMN fate_given INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE node ADD COLUMN heard_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE node ADD COLUMN farewell INTEGER;
    ALTER TABLE piece ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE doubt (
        node INTEGER NOT NULL REFERENCES node,
        block INTEGER NOT NULL REFERENCES block,
        first INTEGER NOT NULL,
        past INTEGER NOT NULL CHECK (past > first),
        state INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        note TEXT NOT NULL,
        PRIMARY KEY (node, block, first)
    ) STRICT, WITHOUT ROWID;
";

/// The columns `fate`, `fate_at_ms` and `fate_given`.
pub(super) fn fate_columns(fate: Fate) -> (u8, i64, i64) {
    match fate {
        Fate::Member => (0, 0, 0),
        Fate::Lost { at_ms, given } => (1, signed(at_ms), signed(given)),
        Fate::Closed { at_ms } => (2, signed(at_ms), 0),
    }
}

/// The same, read from these three columns.
pub(super) fn read_fate(row: &Row<'_>, column: usize) -> Result<Fate, StoreError> {
    let at_ms = unsigned(row.get(column + 1)?);
    match row.get(column)? {
        0u8 => Ok(Fate::Member),
        1 => Ok(Fate::Lost { at_ms, given: unsigned(row.get(column + 2)?) }),
        2 => Ok(Fate::Closed { at_ms }),
        _ => Err(StoreError::Damaged("what became of a node is unknown")),
    }
}

pub(super) fn write(to: &Transaction<'_>, row: &DoubtRow) -> rusqlite::Result<usize> {
    to.prepare_cached(
        "INSERT OR REPLACE INTO doubt (node, block, first, past, state, at_ms, note) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        row.node.0,
        signed(row.span.block.0),
        row.span.start,
        row.span.end,
        row.state as u8,
        signed(row.at_ms),
        row.note
    ])
}

pub(super) fn forget(
    to: &Transaction<'_>,
    node: SellerId,
    block: BlockId,
    first: u32,
) -> rusqlite::Result<usize> {
    to.prepare_cached("DELETE FROM doubt WHERE node = ? AND block = ? AND first = ?")?.execute(params![
        node.0,
        signed(block.0),
        first
    ])
}

pub(super) fn read(from: &Connection) -> Result<BTreeMap<(SellerId, BlockId, u32), DoubtRow>, StoreError> {
    table(from, "SELECT node, block, first, past, state, at_ms, note FROM doubt", |row| {
        let node = SellerId(row.get(0)?);
        let span = Span { block: BlockId(unsigned(row.get(1)?)), start: row.get(2)?, end: row.get(3)? };
        let state = DoubtState::from_byte(row.get(4)?);
        let state = state.ok_or(StoreError::Damaged("what is known of a doubt is unknown"))?;
        let (at_ms, note) = (unsigned(row.get(5)?), row.get(6)?);
        Ok(((node, span.block, span.start), DoubtRow { node, span, state, at_ms, note }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{BOOKS, MOVES, SqliteStore, orders};
    use super::*;
    use crate::hub::books::Place;
    use crate::hub::store::Store;

    #[test]
    fn a_database_from_before_lost_nodes_has_members_only_and_nothing_in_doubt() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hub.db");
        let old = rusqlite::Connection::open(&path).unwrap();
        for migration in [BOOKS, MOVES, orders::MIGRATION] {
            old.execute_batch(migration).unwrap();
        }
        old.execute_batch(
            "INSERT INTO batch (id, variety, received, at_ms) VALUES (7, 1, 50, 9);
             INSERT INTO block VALUES (1, 7, 0, 50, zeroblob(60));
             INSERT INTO piece VALUES (1, 0, 50, 1, NULL, NULL, NULL, NULL);
             INSERT INTO node (seller, name, wrapped_key, bulk_given, urgent_given, journal_acked)
                 VALUES (1, 'east', zeroblob(60), 0, 0, 64);",
        )
        .unwrap();
        old.pragma_update(None, "user_version", 3).unwrap();
        drop(old);
        let books = SqliteStore::open(&path).unwrap().load().unwrap();
        let node = &books.nodes[&SellerId(1)];
        assert_eq!((node.fate, node.farewell, node.journal_acked), (Fate::Member, None, 64));
        assert_eq!(books.pieces[&(BlockId(1), 0)].place, Place::Hub);
        assert!(books.doubts.is_empty());
    }
}
