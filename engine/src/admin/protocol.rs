//! What the command line and a running process say to each other.

use crate::hub::{OrderRow, OrderState};
use crate::ledger::SequenceFact;
use crate::network::{Beyond, Delivered, Doubt, LostNode, Move, SequenceAnswer, Status, Which};
use crate::policy;
use crate::registry::{Dealer, Registry, State, TerminalKey, Variety};
use serde::{Deserialize, Serialize};
use wire::message::Charset;

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How things stand.
    Status,
    /// Whether every PIN is in exactly one place.
    Audit,
    /// End in good order.
    Stop,
    /// All varieties.
    ListVarieties,
    /// A new variety.
    AddVariety(VarietyRow),
    /// All terminals, without keys.
    ListTerminals,
    /// New terminals.
    AddTerminals {
        /// How many, with the next free numbers; ignored if `ids` are given.
        count: u32,
        /// With these numbers.
        ids: Vec<u64>,
        /// Their dealer.
        dealer: u32,
    },
    /// A new key for a terminal.
    Rekey {
        /// Which.
        terminal: u64,
    },
    /// A terminal's state.
    SetTerminal {
        /// Which.
        terminal: u64,
        /// Whether it may sell.
        state: State,
    },
    /// All dealers.
    ListDealers,
    /// A dealer's state.
    SetDealer {
        /// Which.
        dealer: u32,
        /// Whether its terminals may sell.
        state: State,
    },
    /// Varieties and dealers to be added or changed, all of them or none.
    Import {
        /// Those with a known number or code are changed.
        varieties: Vec<VarietyRow>,
        /// Those with a number are changed, those with 0 added.
        dealers: Vec<Dealer>,
    },
    /// A new dealer.
    AddDealer {
        /// Its name.
        name: String,
    },
    /// A new node below the hub.
    AddNode {
        /// Its name.
        name: String,
        /// Whether it is a host connection manager that relays, which has no stock.
        #[serde(default)]
        relay: bool,
    },
    /// Whether servers let in a host connection manager that relays.
    SetManager {
        /// Its name.
        name: String,
        /// Whether they do.
        state: State,
    },
    /// A node goes offline, or not.
    Drain {
        /// Its name or number.
        node: String,
        /// Whether it goes.
        on: bool,
    },
    /// The hub goes offline, or not.
    DrainHub {
        /// Whether it goes.
        on: bool,
    },
    /// What would be in doubt if a node were declared lost now.
    LookAtLost {
        /// Its name or number.
        node: String,
    },
    /// A node is lost: what it held is in doubt.
    Lose {
        /// Its name or number.
        node: String,
    },
    /// What lost nodes held and what became of it.
    ListDoubts {
        /// The name or number of one of them; of all if there is none.
        node: Option<String>,
    },
    /// What is in doubt at a lost node is written off.
    WriteOff {
        /// Its name or number.
        node: String,
        /// Which of it.
        which: Which,
        /// Why.
        note: String,
    },
    /// The record of a node that has left is closed.
    CloseNode {
        /// Its name or number.
        node: String,
    },
    /// What a sequence of a seller came to that does not answer itself any more.
    SequenceAnswer {
        /// The seller's name or number.
        seller: String,
        /// The terminal.
        terminal: u64,
        /// The key epoch of its numbering.
        key_epoch: u32,
        /// The sequence.
        sequence: u64,
    },
    /// The latest moves of stock.
    ListMoves {
        /// How many at most.
        most: usize,
    },
    /// One move of stock.
    Explain {
        /// Which.
        number: u64,
    },
    /// A supplier's file, which follows.
    Intake {
        /// The variety's code.
        variety: String,
        /// A built-in profile's name.
        profile: String,
        /// A profile of the operator's own, as TOML, in place of the built-in one.
        profile_toml: Option<String>,
        /// The last day of validity where the file has none: year × 10,000 + month × 100 + day; 0: none.
        expiry: u32,
        /// The file's size in bytes.
        bytes: u64,
    },
    /// PINs of our own.
    Mint(MintOrder),
    /// All orders to suppliers.
    ListOrders,
    /// Change an order.
    ChangeOrder {
        /// Which.
        number: u64,
        /// How.
        change: OrderChange,
    },
    /// What the journal says of sequences.
    Sequences {
        /// Of which seller; may be left out where there is only one.
        #[serde(default)]
        seller: Option<u32>,
        /// The same by name.
        #[serde(default)]
        name: Option<String>,
        /// From this position on: 0, or where an earlier answer ended.
        since: u64,
        /// Of these terminals; of all if there are none.
        terminals: Vec<u64>,
    },
}

/// What an operator can do with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderChange {
    /// Tell the supplier once more.
    Resend,
    /// Give it up.
    Cancel,
    /// No more of it will come.
    Done,
}

/// An order to issue PINs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MintOrder {
    /// The variety's code.
    pub variety: String,
    /// How many.
    pub count: u32,
    /// Characters of a PIN.
    pub length: u8,
    /// Drawn from letters and digits that do not look alike, not from digits alone.
    pub letters: bool,
    /// Whether the last character is a check character.
    pub check: bool,
    /// The last day of validity: year × 10,000 + month × 100 + day; 0: none.
    pub expiry: u32,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// How far it is.
    Progress {
        /// What is being done: `read`, `compare` or `seal`.
        step: String,
        /// How much of it.
        done: u64,
        /// Of how much.
        total: u64,
    },
    /// How things stand.
    Status(Box<Status>),
    /// The audit's outcome.
    Audit {
        /// Whether every PIN is in exactly one place.
        balanced: bool,
        /// The whole report.
        report: serde_json::Value,
        /// The same for people.
        text: String,
    },
    /// It is ending.
    Stopping,
    /// All varieties.
    Varieties {
        /// By number.
        varieties: Vec<VarietyRow>,
    },
    /// All dealers.
    Dealers {
        /// By number.
        dealers: Vec<Dealer>,
    },
    /// It is so from now on.
    Changed {
        /// How many rows were added.
        added: usize,
        /// How many were changed.
        changed: usize,
    },
    /// All terminals.
    Terminals {
        /// By number.
        terminals: Vec<TerminalRow>,
    },
    /// New keys. They are not shown again.
    Keys {
        /// One for each terminal.
        keys: Vec<KeyRow>,
    },
    /// All orders.
    Orders {
        /// By number.
        orders: Vec<OrderView>,
    },
    /// An order as it is now.
    Order {
        /// Its number.
        number: u64,
        /// How it stands.
        state: OrderState,
    },
    /// What was added.
    Added {
        /// Its number.
        id: u64,
    },
    /// Moves of stock, latest first.
    Moves {
        /// The moves.
        moves: Vec<Move>,
    },
    /// A new node.
    Node {
        /// Its number.
        seller: u32,
        /// Its join token, a secret; it is not shown again.
        token: String,
    },
    /// PINs came in.
    Delivered(Delivered),
    /// What the journal says of sequences, in its order. Comes any number of times before the other replies.
    Sequences {
        /// Fact by fact.
        rows: Vec<SequenceFact>,
    },
    /// That was all of it.
    SequencesEnd {
        /// The seller whose sequences these are.
        seller: u32,
        /// How many rows came.
        rows: u64,
        /// The journal position up to which they were told.
        end: u64,
        /// What holds for sequences that were not told of.
        #[serde(default)]
        beyond: Beyond,
    },
    /// A node that is to be declared lost, or was; or what was written off there.
    Lost(LostNode),
    /// What lost nodes held.
    Doubts {
        /// By node, block and index.
        doubts: Vec<Doubt>,
    },
    /// What a sequence came to.
    SequenceAnswer {
        /// The answer.
        answer: SequenceAnswer,
    },
    /// The answer is no.
    No {
        /// Why, for people.
        reason: String,
    },
}

/// An order to a supplier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    /// Its number.
    pub number: u64,
    /// The variety's code.
    pub variety: String,
    /// The supplier's name.
    pub supplier: String,
    /// How it stands.
    pub state: OrderState,
    /// PINs ordered.
    pub ordered: u64,
    /// PINs that came.
    pub received: u64,
    /// When it was decided, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Why: the numbers.
    pub reason: policy::Order,
    /// Why: a sentence.
    pub why: String,
}

impl OrderView {
    pub(super) fn of(order: OrderRow, variety: String) -> Self {
        let OrderRow { number, supplier, ordered, received, state, at_ms, reason, .. } = order;
        let why = reason.to_string();
        Self { number: number.0, variety, supplier, state, ordered, received, at_ms, reason, why }
    }
}

/// A variety.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarietyRow {
    /// Its number; 0: by its code.
    #[serde(default)]
    pub id: u32,
    /// What operators call it.
    pub code: String,
    /// The product code a terminal asks for.
    pub product: u32,
    /// The denomination, in minor units.
    pub face_value: u64,
    /// ISO 4217 code.
    pub currency: String,
    /// Digits after the decimal point.
    pub currency_digits: u8,
    /// What a terminal shows.
    pub name: String,
    /// What a terminal prints.
    #[serde(default)]
    pub receipt: String,
    /// A PIN is sold only if it stays valid at least this many days.
    #[serde(default)]
    pub minimum_life_days: u32,
}

impl VarietyRow {
    pub(super) fn of(variety: &Variety) -> Self {
        let text = |bytes: &[u8]| match variety.charset {
            Charset::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        };
        Self {
            id: variety.id.0,
            code: variety.code.clone(),
            product: variety.product,
            face_value: variety.face_value,
            currency: String::from_utf8_lossy(&variety.currency).into_owned(),
            currency_digits: variety.currency_digits,
            name: text(&variety.name),
            receipt: text(&variety.receipt),
            minimum_life_days: variety.minimum_life_days,
        }
    }

    /// The variety to add; its currency is checked there.
    pub(super) fn to_variety(&self) -> Variety {
        let mut currency = [b'?'; 3];
        if self.currency.len() == 3 {
            currency.copy_from_slice(self.currency.as_bytes());
        }
        let is_ascii = self.name.is_ascii() && self.receipt.is_ascii();
        Variety {
            id: crate::ids::VarietyId(self.id),
            code: self.code.clone(),
            product: self.product,
            face_value: self.face_value,
            currency,
            currency_digits: self.currency_digits,
            charset: if is_ascii { Charset::Ascii } else { Charset::Utf8 },
            name: self.name.clone().into_bytes(),
            receipt: self.receipt.clone().into_bytes(),
            minimum_life_days: self.minimum_life_days,
        }
    }

    /// The face value as people write it, with its currency.
    #[must_use]
    pub fn price(&self) -> String {
        crate::registry::price(self.face_value, self.currency_digits, &self.currency)
    }
}

/// A terminal, without its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalRow {
    /// Its number.
    pub id: u64,
    /// Its dealer.
    pub dealer: u32,
    /// Counts its keys.
    pub key_epoch: u32,
    /// Whether it may sell.
    pub state: State,
}

impl TerminalRow {
    pub(super) fn all(registry: &Registry) -> Vec<Self> {
        let row = |terminal: &crate::registry::Terminal| Self {
            id: terminal.id.0,
            dealer: terminal.dealer,
            key_epoch: terminal.key_epoch.0,
            state: terminal.state,
        };
        registry.terminals().iter().map(row).collect()
    }
}

/// A terminal's new key, as it is written for the terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// The terminal.
    pub terminal: u64,
    /// Its dealer.
    pub dealer: u32,
    /// The key's epoch.
    pub key_epoch: u32,
    /// The key.
    pub key: TerminalKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_are_lines_of_json() {
        let request = Request::Intake {
            variety: "airtime-za-10".into(),
            profile: "pipe-detail".into(),
            profile_toml: None,
            expiry: 20_271_231,
            bytes: 5,
        };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        let reply = Reply::Delivered(Delivered { batch: 1, variety: "a".into(), pins: 2, blocks: 1 });
        let line = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);
    }
}
