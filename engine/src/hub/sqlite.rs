//! The hub's books in an embedded SQLite database. `spec/hub.md` lists the tables.

mod doubts;
mod orders;

use super::books::{
    BatchRow, BlockRow, Books, Change, Counters, Drain, ManagerRow, MoveRow, NodeRow, PieceRow, Place,
    TerminalRow, Way,
};
use super::store::{Store, StoreError};
use crate::ids::{BatchId, BlockId, KeyEpoch, OrderId, SellerId, Span, TerminalId, VarietyId};
use crate::intake::Source;
use crate::journal::record::{RECORD_BYTES, Record, Stream, TransferFact};
use crate::registry::{Dealer, State, Variety};
use crate::stock::{BlockProperties, Expiry};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::message::Charset;

/// A [`Store`] in one SQLite database: write-ahead log, every commit synced.
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    /// The epoch this handle has loaded.
    epoch: u64,
}

impl SqliteStore {
    /// Opens the database, or makes it, and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError`]; a database of a newer program is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let known = MIGRATIONS.len() as u32;
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        for migration in &MIGRATIONS[found as usize..] {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()?;
        Ok(Self { connection, path: path.to_owned(), epoch: 0 })
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Books, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("UPDATE hub SET epoch = epoch + 1", [])?;
        let books = read_books(&transaction)?;
        transaction.commit()?;
        // The entries of the database and its log, when they are new.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        self.epoch = books.epoch;
        Ok(books)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let theirs = unsigned(transaction.query_one("SELECT epoch FROM hub", [], |row| row.get(0))?);
        if theirs != self.epoch {
            return Err(StoreError::Fenced { ours: self.epoch, theirs });
        }
        for change in changes {
            write(&transaction, change)?;
        }
        Ok(transaction.commit()?)
    }
}

fn write(to: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Counters(c) => to.prepare_cached(
            "UPDATE hub SET registry_version = ?, next_batch = ?, next_block = ?, next_variety = ?, next_dealer = ?, \
             next_terminal = ?, next_seller = ?, next_order = ?",
        )?
        .execute(params![
            signed(c.registry_version),
            signed(c.batch),
            signed(c.block),
            c.variety,
            c.dealer,
            signed(c.terminal),
            c.seller,
            signed(c.order)
        ]),
        Change::Variety(v) => to.prepare_cached(
            "INSERT OR REPLACE INTO variety (id, code, product, face_value, currency, currency_digits, charset, name, \
             receipt, minimum_life_days) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            v.id.0,
            v.code,
            v.product,
            signed(v.face_value),
            v.currency,
            v.currency_digits,
            v.charset as u8,
            v.name,
            v.receipt,
            v.minimum_life_days
        ]),
        Change::Dealer(d) => to
            .prepare_cached(
                "INSERT INTO dealer (id, name, state) VALUES (?, ?, ?) \
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state",
            )?
            .execute(params![d.id, d.name, d.state as u8]),
        Change::Terminal(t) => to
            .prepare_cached(
                "INSERT OR REPLACE INTO terminal (id, dealer, key_epoch, wrapped_key, state) VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![signed(t.id.0), t.dealer, t.key_epoch.0, t.wrapped_key, t.state as u8]),
        Change::Manager(m) => to
            .prepare_cached("INSERT OR REPLACE INTO manager (id, name, wrapped_key, state) VALUES (?, ?, ?, ?)")?
            .execute(params![m.id.0, m.name, m.wrapped_key, m.state as u8]),
        Change::Node(n) => to
            .prepare_cached(
                "INSERT INTO node (seller, name, wrapped_key, bulk_given, urgent_given, journal_acked, returns_taken, \
                 returns, drain_since_ms, drain_moved, fate, fate_at_ms, fate_given, heard_ms, farewell) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                 ON CONFLICT (seller) DO UPDATE SET name = excluded.name, \
                 wrapped_key = excluded.wrapped_key, bulk_given = excluded.bulk_given, \
                 urgent_given = excluded.urgent_given, journal_acked = excluded.journal_acked, \
                 returns_taken = excluded.returns_taken, returns = excluded.returns, \
                 drain_since_ms = excluded.drain_since_ms, drain_moved = excluded.drain_moved, \
                 fate = excluded.fate, fate_at_ms = excluded.fate_at_ms, fate_given = excluded.fate_given, \
                 heard_ms = excluded.heard_ms, farewell = excluded.farewell",
            )?
            .execute(params![
                n.seller.0,
                n.name,
                n.wrapped_key,
                signed(n.given[0]),
                signed(n.given[1]),
                signed(n.journal_acked),
                signed(n.taken),
                encode_returns(&n.returns),
                n.drain.map(|drain| signed(drain.since_ms)),
                n.drain.map(|drain| signed(drain.moved)),
                doubts::fate_columns(n.fate).0,
                doubts::fate_columns(n.fate).1,
                doubts::fate_columns(n.fate).2,
                signed(n.heard_ms),
                n.farewell.map(signed)
            ]),
        Change::Batch(b) => to
            .prepare_cached(
                "INSERT INTO batch (id, variety, received, at_ms, supply_order, digest, source) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                signed(b.batch.0),
                b.variety.0,
                signed(b.received),
                signed(b.at_ms),
                signed(b.source.order.0),
                b.source.digest.to_be_bytes(),
                b.source.name
            ]),
        Change::Block(b) => {
            let p = b.properties;
            to.prepare_cached("INSERT INTO block (id, batch, expiry, pins, wrapped_key) VALUES (?, ?, ?, ?, ?)")?
                .execute(params![signed(p.block.0), signed(p.batch.0), p.expiry.0, b.count, b.wrapped_key])
        }
        Change::Piece(p) => {
            let (node, stream, number, settled) = match p.place {
                Place::Hub | Place::Withdrawn => (None, None, None, None),
                Place::Given { node, stream, number, settled } => {
                    (Some(node.0), Some(stream as u8), Some(signed(number)), Some(settled))
                }
            };
            to.prepare_cached(
                "INSERT OR REPLACE INTO piece (block, first, past, generation, node, stream, number, settled, \
                 withdrawn) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                signed(p.span.block.0),
                p.span.start,
                p.span.end,
                p.generation,
                node,
                stream,
                number,
                settled,
                p.place == Place::Withdrawn
            ])
        }
        Change::Order(row) => orders::write_order(to, row),
        Change::Sales(row) => orders::write_sales(to, row),
        Change::Doubt(row) => doubts::write(to, row),
        Change::ForgetDoubt(node, block, first) => doubts::forget(to, *node, *block, *first),
        Change::Counted(node, position) => orders::write_counted(to, *node, *position),
        Change::Move(m) => to
            .prepare_cached(
                "INSERT INTO move (id, way, node, stream, number, variety, block, first, past, generation, reason, \
                 at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                signed(m.id),
                m.way as u8,
                m.node.0,
                m.stream as u8,
                signed(m.number),
                m.variety.0,
                signed(m.span.block.0),
                m.span.start,
                m.span.end,
                m.generation,
                m.reason.map(|reason| serde_json::to_string(&reason).expect("a reason has a JSON form")),
                signed(m.at_ms)
            ]),
        Change::ForgetMoves { below } => {
            to.prepare_cached("DELETE FROM move WHERE id < ?")?.execute(params![signed(*below)])
        }
        Change::Drain(drain) => to
            .prepare_cached("UPDATE hub SET drain_since_ms = ?, drain_moved = ?")?
            .execute(params![drain.map(|d| signed(d.since_ms)), drain.map(|d| signed(d.moved))]),
    }
    .map(|_| ())
}

fn read_books(from: &Connection) -> Result<Books, StoreError> {
    let (epoch, counters, drain) = from.query_one(
        "SELECT epoch, registry_version, next_batch, next_block, next_variety, next_dealer, next_terminal, next_seller, \
         next_order, drain_since_ms, drain_moved FROM hub",
        [],
        |row| {
            let counters = Counters {
                registry_version: unsigned(row.get(1)?),
                batch: unsigned(row.get(2)?),
                block: unsigned(row.get(3)?),
                variety: row.get(4)?,
                dealer: row.get(5)?,
                terminal: unsigned(row.get(6)?),
                seller: row.get(7)?,
                order: unsigned(row.get(8)?),
            };
            Ok((unsigned(row.get(0)?), counters, read_drain(row, 9)?))
        },
    )?;
    Ok(Books {
        epoch,
        counters,
        drain,
        moves: table(
            from,
            "SELECT id, way, node, stream, number, variety, block, first, past, generation, reason, at_ms FROM move",
            |row| read_move(row).map(|row| (row.id, row)),
        )?,
        varieties: table(
            from,
            "SELECT id, code, product, face_value, currency, currency_digits, charset, name, receipt, \
             minimum_life_days FROM variety",
            |row| read_variety(row).map(|row| (row.id, row)),
        )?,
        dealers: table(from, "SELECT id, name, state FROM dealer", |row| {
            let dealer = Dealer { id: row.get(0)?, name: row.get(1)?, state: state(row.get(2)?)? };
            Ok((dealer.id, dealer))
        })?,
        terminals: table(from, "SELECT id, dealer, key_epoch, wrapped_key, state FROM terminal", |row| {
            let id = TerminalId(unsigned(row.get(0)?));
            let (dealer, key_epoch) = (row.get(1)?, KeyEpoch(row.get(2)?));
            Ok((
                id,
                TerminalRow { id, dealer, key_epoch, wrapped_key: row.get(3)?, state: state(row.get(4)?)? },
            ))
        })?,
        managers: table(from, "SELECT id, name, wrapped_key, state FROM manager", |row| {
            let id = SellerId(row.get(0)?);
            let (name, wrapped_key) = (row.get(1)?, row.get(2)?);
            Ok((id, ManagerRow { id, name, wrapped_key, state: state(row.get(3)?)? }))
        })?,
        nodes: table(
            from,
            "SELECT seller, name, wrapped_key, bulk_given, urgent_given, journal_acked, returns_taken, returns, \
             drain_since_ms, drain_moved, fate, fate_at_ms, fate_given, heard_ms, farewell FROM node",
            |row| read_node(row).map(|row| (row.seller, row)),
        )?,
        batches: table(
            from,
            "SELECT id, variety, received, at_ms, supply_order, digest, source FROM batch",
            |row| {
                let (batch, variety) = (BatchId(unsigned(row.get(0)?)), VarietyId(row.get(1)?));
                let (received, at_ms) = (unsigned(row.get(2)?), unsigned(row.get(3)?));
                let (order, digest) = (OrderId(unsigned(row.get(4)?)), u128::from_be_bytes(row.get(5)?));
                let source = Source { order, digest, name: row.get(6)? };
                Ok((batch, BatchRow { batch, variety, received, at_ms, source }))
            },
        )?,
        blocks: table(
            from,
            "SELECT block.id, block.batch, batch.variety, block.expiry, block.pins, block.wrapped_key \
             FROM block JOIN batch ON batch.id = block.batch",
            |row| {
                let properties = BlockProperties {
                    block: BlockId(unsigned(row.get(0)?)),
                    batch: BatchId(unsigned(row.get(1)?)),
                    variety: VarietyId(row.get(2)?),
                    expiry: Expiry(row.get(3)?),
                };
                let (count, wrapped_key) = (row.get(4)?, row.get(5)?);
                Ok((properties.block, BlockRow { properties, count, wrapped_key }))
            },
        )?,
        pieces: table(
            from,
            "SELECT block, first, past, generation, node, stream, number, settled, withdrawn FROM piece",
            |row| read_piece(row).map(|piece| ((piece.span.block, piece.span.start), piece)),
        )?,
        orders: orders::read_orders(from)?,
        sales: orders::read_sales(from)?,
        counted: orders::read_counted(from)?,
        doubts: doubts::read(from)?,
    })
}

fn table<K: Ord, V>(
    from: &Connection,
    query: &str,
    mut read: impl FnMut(&Row<'_>) -> Result<(K, V), StoreError>,
) -> Result<BTreeMap<K, V>, StoreError> {
    let mut statement = from.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (key, value) = read(row)?;
        found.insert(key, value);
    }
    Ok(found)
}

fn read_variety(row: &Row<'_>) -> Result<Variety, StoreError> {
    let charset = match row.get(6)? {
        0u8 => Charset::Ascii,
        1 => Charset::Utf8,
        2 => Charset::Latin1,
        3 => Charset::Cp1256,
        _ => return Err(StoreError::Damaged("a variety has an unknown charset")),
    };
    Ok(Variety {
        id: VarietyId(row.get(0)?),
        code: row.get(1)?,
        product: row.get(2)?,
        face_value: unsigned(row.get(3)?),
        currency: row.get(4)?,
        currency_digits: row.get(5)?,
        charset,
        name: row.get(7)?,
        receipt: row.get(8)?,
        minimum_life_days: row.get(9)?,
    })
}

fn read_piece(row: &Row<'_>) -> Result<PieceRow, StoreError> {
    let span = Span { block: BlockId(unsigned(row.get(0)?)), start: row.get(1)?, end: row.get(2)? };
    let place = match row.get(4)? {
        None if row.get(8)? => Place::Withdrawn,
        None => Place::Hub,
        Some(node) => Place::Given {
            node: SellerId(node),
            stream: stream(row.get(5)?)?,
            number: unsigned(row.get(6)?),
            settled: row.get(7)?,
        },
    };
    Ok(PieceRow { span, generation: row.get(3)?, place })
}

fn read_node(row: &Row<'_>) -> Result<NodeRow, StoreError> {
    Ok(NodeRow {
        seller: SellerId(row.get(0)?),
        name: row.get(1)?,
        wrapped_key: row.get(2)?,
        given: [unsigned(row.get(3)?), unsigned(row.get(4)?)],
        journal_acked: unsigned(row.get(5)?),
        taken: unsigned(row.get(6)?),
        returns: decode_returns(row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?)?,
        drain: read_drain(row, 8)?,
        fate: doubts::read_fate(row, 10)?,
        heard_ms: unsigned(row.get(13)?),
        farewell: row.get::<_, Option<i64>>(14)?.map(unsigned),
    })
}

fn read_move(row: &Row<'_>) -> Result<MoveRow, StoreError> {
    let way = match row.get(1)? {
        0u8 => Way::ToNode,
        1 => Way::FromNode,
        _ => return Err(StoreError::Damaged("a move goes an unknown way")),
    };
    let reason: Option<String> = row.get(10)?;
    let reason = reason.map(|json| serde_json::from_str(&json)).transpose();
    Ok(MoveRow {
        id: unsigned(row.get(0)?),
        way,
        node: SellerId(row.get(2)?),
        stream: stream(row.get(3)?)?,
        number: unsigned(row.get(4)?),
        variety: VarietyId(row.get(5)?),
        span: Span { block: BlockId(unsigned(row.get(6)?)), start: row.get(7)?, end: row.get(8)? },
        generation: row.get(9)?,
        reason: reason.map_err(|_| StoreError::Damaged("a move has a reason that is not understood"))?,
        at_ms: unsigned(row.get(11)?),
    })
}

/// Two columns: since when, and how much.
fn read_drain(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Drain>> {
    let (since_ms, moved): (Option<i64>, Option<i64>) = (row.get(column)?, row.get(column + 1)?);
    let drain = |(since_ms, moved)| Drain { since_ms: unsigned(since_ms), moved: unsigned(moved) };
    Ok(since_ms.zip(moved).map(drain))
}

/// Outcomes as the journal's records of settlements, one after the other.
fn encode_returns(returns: &BTreeMap<u64, (TransferFact, bool)>) -> Vec<u8> {
    let record =
        |&(transfer, accepted): &(TransferFact, bool)| Record::Settled { transfer, accepted }.encode();
    returns.values().flat_map(record).collect()
}

fn decode_returns(bytes: &[u8]) -> Result<BTreeMap<u64, (TransferFact, bool)>, StoreError> {
    let damaged = || StoreError::Damaged("an outcome of a return is not understood");
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    if !rest.is_empty() {
        return Err(damaged());
    }
    let outcome = |record| match Record::decode(record) {
        Ok(Record::Settled { transfer, accepted }) => Ok((transfer.number, (transfer, accepted))),
        _ => Err(damaged()),
    };
    records.iter().map(outcome).collect()
}

fn stream(byte: u8) -> Result<Stream, StoreError> {
    match byte {
        0 => Ok(Stream::Bulk),
        1 => Ok(Stream::Urgent),
        _ => Err(StoreError::Damaged("a stream is unknown")),
    }
}

fn state(byte: u8) -> Result<State, StoreError> {
    State::from_byte(byte).ok_or(StoreError::Damaged("a state is unknown"))
}

/// SQLite's integers are signed; the bits stay the same.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}

/// Each brings the tables from one version, kept in `user_version`, to the next. None is ever changed once released.
const MIGRATIONS: &[&str] = &[BOOKS, MOVES, orders::MIGRATION, doubts::MIGRATION, MANAGERS];

const BOOKS: &str = "
    CREATE TABLE hub (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch INTEGER NOT NULL,
        registry_version INTEGER NOT NULL,
        next_batch INTEGER NOT NULL,
        next_block INTEGER NOT NULL,
        next_variety INTEGER NOT NULL,
        next_dealer INTEGER NOT NULL,
        next_terminal INTEGER NOT NULL,
        next_seller INTEGER NOT NULL
    ) STRICT;
    INSERT INTO hub VALUES (1, 0, 0, 1, 1, 1, 1, 1, 1);
    CREATE TABLE variety (
        id INTEGER PRIMARY KEY,
        code TEXT NOT NULL UNIQUE,
        product INTEGER NOT NULL,
        face_value INTEGER NOT NULL,
        currency BLOB NOT NULL,
        currency_digits INTEGER NOT NULL,
        charset INTEGER NOT NULL,
        name BLOB NOT NULL,
        receipt BLOB NOT NULL,
        minimum_life_days INTEGER NOT NULL,
        UNIQUE (product, face_value)
    ) STRICT;
    CREATE TABLE dealer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, state INTEGER NOT NULL) STRICT;
    CREATE TABLE terminal (
        id INTEGER PRIMARY KEY,
        dealer INTEGER NOT NULL REFERENCES dealer,
        key_epoch INTEGER NOT NULL,
        wrapped_key BLOB NOT NULL,
        state INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE node (
        seller INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        wrapped_key BLOB NOT NULL,
        bulk_given INTEGER NOT NULL,
        urgent_given INTEGER NOT NULL,
        journal_acked INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE batch (
        id INTEGER PRIMARY KEY,
        variety INTEGER NOT NULL,
        received INTEGER NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE block (
        id INTEGER PRIMARY KEY,
        batch INTEGER NOT NULL REFERENCES batch,
        expiry INTEGER NOT NULL,
        pins INTEGER NOT NULL,
        wrapped_key BLOB NOT NULL
    ) STRICT;
    CREATE TABLE piece (
        block INTEGER NOT NULL REFERENCES block,
        first INTEGER NOT NULL,
        past INTEGER NOT NULL CHECK (past > first),
        generation INTEGER NOT NULL,
        node INTEGER REFERENCES node,
        stream INTEGER CHECK ((stream IS NULL) = (node IS NULL)),
        number INTEGER CHECK ((number IS NULL) = (node IS NULL)),
        settled INTEGER CHECK ((settled IS NULL) = (node IS NULL)),
        PRIMARY KEY (block, first)
    ) STRICT, WITHOUT ROWID;
";

const MANAGERS: &str = "
    CREATE TABLE manager (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        wrapped_key BLOB NOT NULL,
        state INTEGER NOT NULL
    ) STRICT;
";

const MOVES: &str = "
    ALTER TABLE hub ADD COLUMN drain_since_ms INTEGER;
    ALTER TABLE hub ADD COLUMN drain_moved INTEGER;
    ALTER TABLE node ADD COLUMN returns_taken INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE node ADD COLUMN returns BLOB NOT NULL DEFAULT x'';
    ALTER TABLE node ADD COLUMN drain_since_ms INTEGER;
    ALTER TABLE node ADD COLUMN drain_moved INTEGER;
    CREATE TABLE move (
        id INTEGER PRIMARY KEY,
        way INTEGER NOT NULL,
        node INTEGER NOT NULL REFERENCES node,
        stream INTEGER NOT NULL,
        number INTEGER NOT NULL,
        variety INTEGER NOT NULL,
        block INTEGER NOT NULL,
        first INTEGER NOT NULL,
        past INTEGER NOT NULL CHECK (past > first),
        generation INTEGER NOT NULL,
        reason TEXT,
        at_ms INTEGER NOT NULL
    ) STRICT;
";
