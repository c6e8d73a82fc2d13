//! Which nodes are below this one, as the hub last said; kept, so that they can connect while the hub is away.
//!
//! The file: for each node its number `u32`, standing `u8`, node key wrapped under this node's key for terminals as the key of
//! terminal 0, which no terminal is, with the node's number as epoch (60 bytes), length of the name `u8`, name; then the xxh3-64 of
//! all before it. Little-endian.

use super::{Child, ChildKey};
use crate::disk::{Disk, DiskError};
use crate::ids::{KeyEpoch, SellerId, TerminalId};
use crate::ledger::Below;
use crate::link::{self, ChildStanding};
use crate::registry::TerminalKey;
use crate::steward::{Steward, StewardAction, StewardError, Waiter};
use crate::stock::NodeKeys;
use crate::time::Now;
use xxhash_rust::xxh3::xxh3_64;

impl<D: Disk> Steward<D> {
    /// Reads the list as it was stored.
    pub(in crate::steward) fn load_children(&mut self) -> Result<(), StewardError> {
        let file = match self.disk.open(CHILDREN_FILE) {
            Err(error) if error.is_missing() => return Ok(()),
            opened => opened?,
        };
        let listed = decode(file.as_ref(), &self.keys).ok_or(StewardError::Children)?;
        self.list_children(&listed);
        Ok(())
    }

    /// The hub says which nodes are below this one.
    pub(in crate::steward) fn take_children(
        &mut self,
        listed: &[link::Child],
        now: &Now,
    ) -> Result<(), StewardError> {
        let is_draining = self.draining;
        let is_first = !std::mem::replace(&mut self.children.is_heard, true);
        let mut said = Vec::new();
        for listed in listed {
            let Some(child) = self.children.by_node.get(&listed.node).filter(|child| child.is_greeted())
            else {
                continue;
            };
            if is_first || child.standing != listed.standing {
                said.push((listed.node, listed.standing));
            }
        }
        self.list_children(listed);
        for (node, standing) in said {
            let Some(child) = self.children.by_node.get_mut(&node) else { continue };
            let told = child.told(is_draining);
            if standing == ChildStanding::Lost {
                // It gets nothing any more, and is told so with whatever it asks for.
                child.wanted.clear();
                self.waiting.retain(|waiting| !matches!(waiting.who, Waiter::Below(who, _) if who == node));
            }
            self.send_below(node, told);
            if standing == ChildStanding::Closed {
                self.close_child(node, "it has left the network [node_closed]".to_owned());
            }
        }
        self.children.is_unstored = true;
        self.store_state(now)
    }

    fn list_children(&mut self, listed: &[link::Child]) {
        for link::Child { node, name, key, standing, given } in listed {
            let child = self.children.by_node.entry(*node);
            let child = child.or_insert_with(|| Child::new(*node, Below::default()));
            child.name.clone_from(name);
            child.standing = *standing;
            child.given = child.given.max(*given);
            let keys = NodeKeys::from_node_key(key.expose());
            child.key = Some(ChildKey { node_key: key.clone(), keys });
        }
        self.actions.push_back(StewardAction::Children);
    }

    pub(in crate::steward) fn store_children(&self) -> Result<(), DiskError> {
        let mut file = Vec::new();
        for child in self.children.by_node.values() {
            let Some(key) = &child.key else { continue };
            file.extend_from_slice(&child.node.0.to_le_bytes());
            file.push(child.standing as u8);
            let terminals = self.keys.terminals();
            let epoch = KeyEpoch(child.node.0);
            file.extend_from_slice(&terminals.wrap_terminal(TerminalId(0), epoch, key.node_key.expose()));
            file.push(u8::try_from(child.name.len()).expect("a node's name is short"));
            file.extend_from_slice(child.name.as_bytes());
        }
        let sum = xxh3_64(&file);
        file.extend_from_slice(&sum.to_le_bytes());
        self.disk.write(CHILDREN_FILE, &[&file])
    }
}

fn decode(file: &[u8], keys: &NodeKeys) -> Option<Vec<link::Child>> {
    let (mut rest, sum) = file.split_last_chunk::<8>()?;
    if xxh3_64(rest).to_le_bytes() != *sum {
        return None;
    }
    let mut listed = Vec::new();
    while !rest.is_empty() {
        let (node, after) = rest.split_first_chunk::<4>()?;
        let (standing, after) = after.split_first()?;
        let (wrapped, after) = after.split_first_chunk::<60>()?;
        let (length, after) = after.split_first()?;
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        let node = SellerId(u32::from_le_bytes(*node));
        let opened = keys.terminals().unwrap_terminal(TerminalId(0), KeyEpoch(node.0), wrapped).ok()?;
        listed.push(link::Child {
            node,
            name: String::from_utf8(name.to_vec()).ok()?,
            key: TerminalKey::new(*opened),
            standing: ChildStanding::from_byte(*standing)?,
            // The hub says it with its next welcome.
            given: 0,
        });
    }
    Some(listed)
}

/// The nodes below, as the hub last said.
pub(in crate::steward) const CHILDREN_FILE: &str = "nodes-below";
