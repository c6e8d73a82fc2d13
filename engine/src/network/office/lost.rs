//! Nodes that are lost, and nodes that have left.

use super::super::hub::LiveHub;
use super::super::hub_node::HubDesk;
use super::{NotDone, Office};
use crate::disk::Disk;
use crate::hub::books::Fate;
use crate::hub::{Command, CommandError, Done, DoubtRow, DoubtState, Spent};
use crate::ids::{BlockId, SellerId, Span, VarietyId};
use crate::journal::Position;
use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::stock::SegmentFile;
use crate::stock::record::serial_of;
use crate::stock::segment::block_path;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// PINs of one variety.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinsOf {
    /// The variety's code.
    pub code: String,
    /// How many.
    pub pins: u64,
    /// What they are worth, in minor units of the currency.
    pub value: u64,
    /// ISO 4217 code.
    pub currency: String,
    /// Digits after the decimal point.
    pub currency_digits: u8,
}

/// A node that is to be declared lost, or was, and what it holds as far as the hub can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostNode {
    /// Its number.
    pub seller: u32,
    /// Its name.
    pub name: String,
    /// When it was last heard, in milliseconds of Unix time; 0: never.
    pub heard_ms: u64,
    /// What it holds, by variety.
    pub holds: Vec<PinsOf>,
}

/// A range of what a lost node held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The node's number.
    pub seller: u32,
    /// Of what, and how much.
    #[serde(flatten)]
    pub of: PinsOf,
    /// The block.
    pub block: u64,
    /// The first index in it.
    pub first: u32,
    /// One past the last index.
    pub past: u32,
    /// The serials of the first and the last, if the hub's file of the block can be read.
    pub serials: Option<(String, String)>,
    /// What is known of them.
    pub state: DoubtState,
    /// Since when, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Why, if an operator said so.
    pub note: String,
}

/// Which PINs to write off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    /// Of this variety only, by code.
    pub variety: Option<String>,
    /// With serials from the first to the second only, both included.
    pub serials: Option<(String, String)>,
}

impl Office {
    /// What would be in doubt if a node, by name or number, were declared lost now.
    ///
    /// # Errors
    /// [`NotDone`], as if it were.
    pub fn look_at_lost(&self, name: &str) -> Result<LostNode, NotDone> {
        let node = self.node_called(name)?;
        self.ask(move |hub| hub.check_losable(node))??;
        let spent = self.spent(node)?;
        self.ask(move |hub| Ok(lost_node(hub, node, &hub.held_by(node, &spent)??)))?
    }

    /// Declares a node lost: what it held is in doubt from then on.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn lose(&self, name: &str) -> Result<LostNode, NotDone> {
        let node = self.node_called(name)?;
        self.ask(move |hub| hub.check_losable(node))??;
        match self.with_spent(node, |spent| Command::Lose { node, spent })? {
            Done::Doubts(held) => self.ask(move |hub| lost_node(hub, node, &held)),
            other => unreachable!("a loss is answered by what is in doubt, not {other:?}"),
        }
    }

    /// What lost nodes held, or one of them, and what became of it.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn doubts(&self, name: Option<&str>) -> Result<Vec<Doubt>, NotDone> {
        let node = name.map(|name| self.node_called(name)).transpose()?;
        let (rows, registry) = self.ask(move |hub| {
            let rows = hub.doubts().filter(|row| node.is_none_or(|node| node == row.node));
            let rows = rows.map(|row| (row.clone(), hub.variety_of(row.span.block)));
            (rows.collect::<Vec<_>>(), Arc::clone(hub.registry()))
        })?;
        let disk = &*self.hub()?.disk;
        let doubt = |(row, variety): (DoubtRow, Option<VarietyId>)| {
            let DoubtRow { node, span, state, at_ms, note } = row;
            let of = pins_of(&registry, variety.unwrap_or_default(), span.len().into());
            let (block, first, past) = (span.block.0, span.start, span.end);
            let serials = serial(disk, span.block, first).zip(serial(disk, span.block, past - 1));
            Doubt { seller: node.0, of, block, first, past, serials, state, at_ms, note }
        };
        Ok(rows.into_iter().map(doubt).collect())
    }

    /// Writes off what is in doubt at a lost node: it is never sold.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn write_off(&self, name: &str, which: &Which, note: &str) -> Result<LostNode, NotDone> {
        let node = self.node_called(name)?;
        let registry = self.registry()?;
        let unknown = |code: &String| NotDone::NoSuchVariety(code.clone());
        let variety = which.variety.as_ref();
        let variety =
            variety.map(|code| registry.variety_by_code(code).map(|v| v.id).ok_or_else(|| unknown(code)));
        let variety = variety.transpose()?;
        let spans = match &which.serials {
            None => None,
            Some((from, to)) => Some(self.spans_with(node, from, to)?),
        };
        let note = note.to_owned();
        match self.command(Command::WriteOff { node, variety, spans, note })? {
            Done::Doubts(settled) => self.ask(move |hub| lost_node(hub, node, &settled)),
            other => unreachable!("it is answered by what was settled, not {other:?}"),
        }
    }

    /// Closes the record of a node that has left: the hub answers for its sequences from then on.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn close_node(&self, name: &str) -> Result<SellerId, NotDone> {
        let node = self.node_called(name)?;
        self.ask(move |hub| hub.check_closable(node))??;
        self.with_spent(node, |spent| Command::CloseNode { node, spent })?;
        Ok(node)
    }

    /// The node of this name or number.
    ///
    /// # Errors
    /// [`NotDone::NoSuchNode`], [`NotDone::HubItself`], [`NotDone::NoAnswer`].
    pub fn node_called(&self, name: &str) -> Result<SellerId, NotDone> {
        let wanted = name.to_owned();
        let found = self.ask(move |hub| {
            let mut nodes = hub.nodes();
            let node = nodes.find(|(node, name)| *name == wanted || node.0.to_string() == wanted);
            node.map(|(node, _)| node)
        })?;
        match found {
            Some(node) => Ok(node),
            None if name == "hub" => Err(NotDone::HubItself),
            None => Err(NotDone::NoSuchNode(name.to_owned())),
        }
    }

    /// Nodes that were declared lost.
    pub(super) fn lost_nodes(&self) -> Result<Vec<SellerId>, NotDone> {
        self.ask(|hub| {
            let is_lost = |node: &SellerId| matches!(hub.fate(*node), Some(Fate::Lost { .. }));
            hub.nodes().map(|(node, _)| node).filter(is_lost).collect()
        })
    }

    fn spent(&self, node: SellerId) -> Result<Spent, NotDone> {
        let mut spent = self.with_archived(node, Spent::of)?;
        if let Some(server) = self.ask(move |hub| hub.parent(node))? {
            let books =
                |position, ledger: &Ledger| (position, ledger.below.get(&node).cloned().unwrap_or_default());
            let (position, books) = self.with_archived(server, books)?;
            spent = spent.given_by(position, books);
        }
        // Nodes below it have left or are lost by then: what they sold was given to this one.
        for child in self.ask(move |hub| hub.children(node).collect::<Vec<_>>())? {
            spent.add_below(&self.with_archived(child, Spent::of)?);
        }
        Ok(spent)
    }

    /// Shows what the whole archive of a node comes to, and up to where it goes.
    fn with_archived<T>(
        &self,
        node: SellerId,
        look: impl FnOnce(Position, &Ledger) -> T,
    ) -> Result<T, NotDone> {
        let acked = self.ask(move |hub| hub.journal_acked(node))?.unwrap_or(0);
        Ok(self.hub()?.with_archive(node, Position(acked), look)?)
    }

    /// Has a command done that needs to know what a node's archive comes to, which may be growing.
    fn with_spent(&self, node: SellerId, command: impl Fn(Spent) -> Command) -> Result<Done, NotDone> {
        for _ in 0..TRIES {
            match self.command(command(self.spent(node)?)) {
                Err(NotDone::Refused(CommandError::JournalMoved)) => {}
                done => return done,
            }
        }
        Err(CommandError::JournalMoved.into())
    }

    /// What is in doubt at a node and has a serial from one to another.
    fn spans_with(&self, node: SellerId, from: &str, to: &str) -> Result<Vec<Span>, NotDone> {
        let in_doubt = self.ask(move |hub| {
            let rows = hub.doubts_of(node).filter(|row| row.state == DoubtState::InDoubt);
            rows.map(|row| row.span).collect::<Vec<_>>()
        })?;
        let HubDesk { disk, .. } = self.hub()?;
        let mut spans: Vec<Span> = Vec::new();
        for span in in_doubt {
            let Ok(file) = SegmentFile::open(&**disk, &block_path(span.block)) else { continue };
            let is_wanted = |index: u32| {
                let record = file.record(u16::try_from(index).ok()?)?;
                let serial = serial_of(record).ok()?;
                let serial = serial.as_bytes();
                // Serials of one length are compared as text: those of a supplier are.
                let is_alike = serial.len() == from.len() && serial.len() == to.len();
                Some(is_alike && (from.as_bytes()..=to.as_bytes()).contains(&serial))
            };
            for index in (span.start..span.end).filter(|index| is_wanted(*index) == Some(true)) {
                match spans.last_mut() {
                    Some(last) if (last.block, last.end) == (span.block, index) => last.end += 1,
                    _ => spans.push(Span { start: index, end: index + 1, ..span }),
                }
            }
        }
        Ok(spans)
    }
}

fn lost_node(hub: &LiveHub, node: SellerId, held: &[(VarietyId, u64)]) -> LostNode {
    let name = hub.nodes().find(|(seller, _)| *seller == node).map_or("", |(_, name)| name).to_owned();
    let holds = held.iter().map(|(variety, pins)| pins_of(hub.registry(), *variety, *pins)).collect();
    LostNode { seller: node.0, name, heard_ms: hub.heard_ms(node), holds }
}

fn pins_of(registry: &Registry, variety: VarietyId, pins: u64) -> PinsOf {
    let row = registry.variety(variety);
    PinsOf {
        code: row.map(|row| row.code.clone()).unwrap_or_default(),
        pins,
        value: row.map_or(0, |row| row.face_value.saturating_mul(pins)),
        currency: row.map(|row| String::from_utf8_lossy(&row.currency).into_owned()).unwrap_or_default(),
        currency_digits: row.map_or(0, |row| row.currency_digits),
    }
}

/// The serial of a PIN, from the hub's file of its block.
pub(super) fn serial<D: Disk>(disk: &D, block: BlockId, index: u32) -> Option<String> {
    let file = SegmentFile::open(disk, &block_path(block)).ok()?;
    let serial = serial_of(file.record(u16::try_from(index).ok()?)?).ok()?;
    Some(String::from_utf8_lossy(serial.as_bytes()).into_owned())
}

/// How often a command is said again while a journal grows.
const TRIES: usize = 5;
