//! Orders to suppliers and what was sold, in SQLite.

use super::{signed, table, unsigned};
use crate::hub::orders::{OrderRow, OrderState};
use crate::hub::sales::SalesRow;
use crate::hub::store::StoreError;
use crate::ids::{OrderId, SellerId, VarietyId};
use crate::policy::Rate;
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeMap;

/// Brings the tables of orders and sales, and what batches say of where they came from.
pub(super) const MIGRATION: &str = "
    ALTER TABLE hub ADD COLUMN next_order INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE batch ADD COLUMN supply_order INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE batch ADD COLUMN digest BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
    ALTER TABLE batch ADD COLUMN source TEXT NOT NULL DEFAULT '';
    CREATE TABLE supply_order (
        number INTEGER PRIMARY KEY,
        variety INTEGER NOT NULL,
        supplier TEXT NOT NULL,
        ordered INTEGER NOT NULL,
        received INTEGER NOT NULL,
        state INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    CREATE TABLE sales (
        variety INTEGER PRIMARY KEY,
        gone INTEGER NOT NULL,
        days TEXT NOT NULL,
        rate INTEGER NOT NULL,
        rate_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE counted (node INTEGER PRIMARY KEY, position INTEGER NOT NULL) STRICT;
";

pub(super) fn write_order(to: &Transaction<'_>, row: &OrderRow) -> rusqlite::Result<usize> {
    let reason = serde_json::to_string(&row.reason).expect("numbers have a JSON form");
    to.prepare_cached(
        "INSERT OR REPLACE INTO supply_order (number, variety, supplier, ordered, received, state, at_ms, reason) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        signed(row.number.0),
        row.variety.0,
        row.supplier,
        signed(row.ordered),
        signed(row.received),
        row.state as u8,
        signed(row.at_ms),
        reason
    ])
}

pub(super) fn write_sales(to: &Transaction<'_>, row: &SalesRow) -> rusqlite::Result<usize> {
    let days = serde_json::to_string(&row.days).expect("numbers have a JSON form");
    to.prepare_cached(
        "INSERT OR REPLACE INTO sales (variety, gone, days, rate, rate_at_ms) VALUES (?, ?, ?, ?, ?)",
    )?
    .execute(params![row.variety.0, signed(row.gone), days, signed(row.rate.0), signed(row.rate_at_ms)])
}

pub(super) fn write_counted(to: &Transaction<'_>, node: SellerId, position: u64) -> rusqlite::Result<usize> {
    to.prepare_cached("INSERT OR REPLACE INTO counted (node, position) VALUES (?, ?)")?
        .execute(params![node.0, signed(position)])
}

pub(super) fn read_orders(from: &Connection) -> Result<BTreeMap<OrderId, OrderRow>, StoreError> {
    let query = "SELECT number, variety, supplier, ordered, received, state, at_ms, reason FROM supply_order";
    table(from, query, |row| {
        let number = OrderId(unsigned(row.get(0)?));
        let state =
            OrderState::from_byte(row.get(5)?).ok_or(StoreError::Damaged("an order's state is unknown"))?;
        let reason: String = row.get(7)?;
        let reason = serde_json::from_str(&reason)
            .map_err(|_| StoreError::Damaged("an order's reason cannot be read"))?;
        let (ordered, received, at_ms) =
            (unsigned(row.get(3)?), unsigned(row.get(4)?), unsigned(row.get(6)?));
        let (variety, supplier) = (VarietyId(row.get(1)?), row.get(2)?);
        Ok((number, OrderRow { number, variety, supplier, ordered, received, state, at_ms, reason }))
    })
}

pub(super) fn read_sales(from: &Connection) -> Result<BTreeMap<VarietyId, SalesRow>, StoreError> {
    table(from, "SELECT variety, gone, days, rate, rate_at_ms FROM sales", |row| {
        let variety = VarietyId(row.get(0)?);
        let days: String = row.get(2)?;
        let days = serde_json::from_str(&days)
            .map_err(|_| StoreError::Damaged("the sales of a variety cannot be read"))?;
        let (gone, rate) = (unsigned(row.get(1)?), Rate(unsigned(row.get(3)?)));
        Ok((variety, SalesRow { variety, gone, days, rate, rate_at_ms: unsigned(row.get(4)?) }))
    })
}

pub(super) fn read_counted(from: &Connection) -> Result<BTreeMap<SellerId, u64>, StoreError> {
    table(from, "SELECT node, position FROM counted", |row| {
        Ok((SellerId(row.get(0)?), unsigned(row.get(1)?)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{BOOKS, SqliteStore};
    use crate::hub::store::Store;
    use crate::ids::BatchId;
    use crate::intake::Source;

    #[test]
    fn a_database_from_before_orders_keeps_its_deliveries_and_begins_with_order_1() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hub.db");
        let old = rusqlite::Connection::open(&path).unwrap();
        old.execute_batch(BOOKS).unwrap();
        old.execute_batch("INSERT INTO batch (id, variety, received, at_ms) VALUES (7, 1, 50, 9)").unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let books = SqliteStore::open(&path).unwrap().load().unwrap();
        assert_eq!((books.batches[&BatchId(7)].received, books.counters.order), (50, 1));
        assert_eq!(books.batches[&BatchId(7)].source, Source::default());
        assert!(books.orders.is_empty() && books.sales.is_empty() && books.counted.is_empty());
    }
}
