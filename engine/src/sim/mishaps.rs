//! What each kind of fault does.

use super::broken::{Concerned, broken};
use super::dice::Dice;
use super::faults::Kind;
use super::node::{Node, NodeStop};
use super::office::{archived, make};
use super::trace::Subject;
use super::world::{MAX_SKEW_MS, Till, World, asker, marks};
use crate::hub::{Command, Done, Spent};
use crate::link::ToNode;
use crate::policy::Levels;
use crate::registry::State;
use std::sync::Arc;

impl World<'_> {
    /// A fault happens. `dice` is its own.
    pub(super) fn strike(&mut self, kind: Kind, dice: &mut Dice) {
        let sites = self.sites.len() as u64;
        let at = dice.below(sites) as usize;
        let till = dice.below(self.terminals.len() as u64) as usize;
        match kind {
            Kind::Kill => self.start_node(at),
            Kind::PowerLoss => {
                self.lose_power(at);
                self.start_node(at);
            }
            Kind::KillThenPower => self.kill_then_power(at, dice),
            Kind::KillHub => self.kill_hub(dice),
            Kind::HubAway => self.hub_away(dice),
            Kind::Cut => self.cut_link(at, dice),
            Kind::Partition => {
                self.cut_link(at, dice);
                self.links[at].parted_until = self.step + dice.below(3_000);
            }
            Kind::Stall => {
                let until = self.step + dice.below(1_500);
                self.links[at].stalled_until[dice.below(2) as usize] = until;
            }
            Kind::Slow => self.links[at].slow_until = self.step + dice.below(3_000),
            Kind::Reconnect => self.reconnect(till),
            Kind::RelayDies => {
                for till in 0..self.terminals.len() {
                    if self.terminals[till].site == at && dice.one_in(2) {
                        self.reconnect(till);
                    }
                }
            }
            Kind::Roam => self.roam(till, at),
            Kind::Wipe => {
                self.terminals[till].terminal.wipe();
                self.reconnect(till);
            }
            Kind::Rekey => self.rekey(till, dice),
            Kind::DamageRecord => {
                let node = &self.sites[at].node;
                node.damage_record(&self.sites[at].disk, dice);
                self.start_node(at);
            }
            Kind::Decay => self.decay(at, dice),
            Kind::FullDisk => {
                // At the limit at once, or soon.
                let room = if dice.one_in(2) { 0 } else { dice.below(64 << 10) };
                let disk = if dice.one_in(4) { &self.hub_disk } else { &self.sites[at].disk };
                disk.limit(Some(disk.held_bytes() + room));
            }
            Kind::RefuseWrite => {
                self.sites[at].node.refuses_write = true;
                // At times its answer does not get through, and it is started again before it does.
                if dice.one_in(2) {
                    let until = self.step + 200 + dice.below(800);
                    self.links[at].stalled_until[0] = until;
                    self.kills.push((until - 1, at));
                }
            }
            Kind::FailSync => {
                let whose = dice.below(sites + 1) as usize;
                let disk = self.sites.get(whose).map_or(&self.hub_disk, |site| &site.disk);
                disk.fail_sync_after(Some(1 + dice.below(12)));
                self.may_stop[whose] = true;
            }
            Kind::Room => self.lift_limits(),
            Kind::ClockJump => {
                let jump_ms = if dice.one_in(3) { dice.below(2 * DAY_MS) } else { dice.below(HOUR_MS) };
                // It is set back at times, but never far.
                if dice.one_in(3) {
                    self.now.unix_ms -= jump_ms.min(HOUR_MS);
                } else {
                    self.now.unix_ms += jump_ms;
                }
            }
            Kind::ClockSkew => {
                let off_ms = dice.below(2 * MAX_SKEW_MS) as i64 - MAX_SKEW_MS as i64;
                self.skews[at] = if dice.one_in(3) { 0 } else { off_ms };
            }
            Kind::Suspend => self.set_dealer(State::Suspended, dice),
            Kind::Activate => self.set_dealer(State::Active, dice),
            Kind::Drain => {
                let node = self.sites[at].seller;
                if !self.lost.contains(&at) {
                    let on = self.hub.node_drain(node).is_none();
                    self.order(Command::Drain { node, on }, dice);
                }
            }
            Kind::DrainHub => _ = self.order(Command::DrainHub { on: true }, dice),
            Kind::UndrainHub => _ = self.order(Command::DrainHub { on: false }, dice),
            Kind::Marks => self.other_marks(at, dice),
            Kind::Lose => self.lose_node(at, dice),
            Kind::OldCopy => self.start_old_copy(at, dice),
            Kind::Deliver => self.deliver_more(dice),
            Kind::Audit => self.audit_while_running(dice),
        }
    }

    pub(super) fn lift_limits(&mut self) {
        self.sites.iter().for_each(|site| site.disk.limit(None));
        self.hub_disk.limit(None);
    }

    pub(super) fn lose_power(&mut self, at: usize) {
        self.sites[at].disk.lose_power(self.dice.sector_fates());
    }

    /// Whatever was a node's process is gone, with all its connections; another one starts on its disk.
    pub(super) fn start_node(&mut self, at: usize) {
        self.crashes += 1;
        self.cut(at);
        self.links[at].lower_knows = true;
        for below in 0..self.sites.len() {
            if self.parents[below] == Some(at) {
                self.cut(below);
                self.links[below].upper_knows = true;
            }
        }
        // Stopped by a failing sync, it found a disk again that does not fail.
        self.sites[at].disk.fail_sync_after(None);
        self.may_stop[at] = false;
        if let Err(stop) = self.sites[at].start() {
            self.not_started(at, &stop);
        }
        for till in 0..self.terminals.len() {
            if self.terminals[till].site == at {
                self.reconnect(till);
            }
        }
        self.check_books(at);
    }

    /// A start may need room, and nothing else.
    fn not_started(&mut self, at: usize, stop: &NodeStop) {
        let node = self.sites[at].seller;
        if !stop.is_full() {
            broken(7, format!("node {} does not start: {stop}", node.0), Concerned::default());
        }
        self.trace.note("start waits for room", Subject::node(node), || stop.to_string());
        self.sites[at].disk.limit(None);
        if let Err(stop) = self.sites[at].start() {
            broken(8, format!("node {} does not start with room: {stop}", node.0), Concerned::default());
        }
    }

    /// A process ends, another starts on what the page cache shows and answers, and then the power goes.
    fn kill_then_power(&mut self, at: usize, dice: &mut Dice) {
        self.start_node(at);
        for _ in 0..dice.below(60) {
            self.begin_step();
            self.step();
        }
        self.check_books(at);
        self.lose_power(at);
        self.start_node(at);
    }

    fn kill_hub(&mut self, dice: &mut Dice) {
        self.crashes += 1;
        if dice.one_in(2) {
            self.hub_disk.lose_power(dice.sector_fates());
        }
        self.hub_disk.fail_sync_after(None);
        let hub = self.sites.len();
        self.may_stop[hub] = false;
        if self.hub_is_up() {
            self.load_hub();
        }
    }

    fn hub_away(&mut self, dice: &mut Dice) {
        if !self.hub_is_up() {
            return;
        }
        self.kill_hub(dice);
        for at in 0..self.sites.len() {
            if self.parents[at].is_none() {
                self.cut(at);
                self.links[at].upper_knows = true;
            }
        }
        self.hub_away_until = Some(self.step + 200 + dice.below(2_000));
        let away_ms = if dice.one_in(2) { dice.below(6 * HOUR_MS) } else { 0 };
        self.now.unix_ms += away_ms;
        self.now.monotonic_ms += away_ms;
    }

    fn cut_link(&mut self, at: usize, dice: &mut Dice) {
        self.cut(at);
        if dice.one_in(2) {
            self.tell_upper(at);
        }
        if dice.one_in(2) {
            self.tell_lower(at);
        }
    }

    /// A terminal goes to another seller.
    pub(super) fn roam(&mut self, till: usize, to: usize) {
        let Till { terminal, site, .. } = &self.terminals[till];
        let (from, asker) = (*site, asker(terminal, 0));
        if self.dice.one_in(2) {
            self.sites[from].node.handle_closed(&asker);
        }
        self.terminals[till].site = to;
        self.reconnect(till);
    }

    /// A terminal gets a new key: whoever is connected with the old one is sent away.
    fn rekey(&mut self, at: usize, dice: &mut Dice) {
        let Till { terminal, site, .. } = &self.terminals[at];
        let (id, asker, site) = (terminal.id, asker(terminal, 0), *site);
        let Some(Done::Keys(keys)) = self.order(Command::Rekey { terminal: id }, dice) else { return };
        self.sites[site].node.handle_closed(&asker);
        self.terminals[at].terminal.rekey(keys[0].key_epoch, *keys[0].key.expose());
        self.reconnect(at);
    }

    /// A bit decays in a copy of a disk: a node that starts on it stops and says so, or has lost nothing.
    fn decay(&mut self, at: usize, dice: &mut Dice) {
        let disk = Arc::new(self.sites[at].disk.copy());
        let seller = self.sites[at].seller;
        let Ok(mut intact) = Node::recover(disk.clone()) else { return };
        while intact.advance(usize::MAX).is_ok_and(|more| more) {}
        // The last batch now is the one that this start has made. What it proves is all that was before.
        let mut files = Vec::new();
        disk.each_file(|path, bytes| files.push((path.to_owned(), bytes.len())));
        files.retain(|(_, bytes)| *bytes > 0);
        let (path, bytes) = files[dice.below(files.len() as u64) as usize].clone();
        let offset = dice.below(bytes as u64) as usize;
        disk.flip_bit(&path, offset, dice.below(8) as u8);
        // Segment files and state files are opened by the steward.
        let started = self.sites[at].start_on(disk);
        let subject = Subject::node(seller).number(offset as u64);
        match started {
            Err(stop) => self.trace.note("decay found out", subject, || format!("{path}: {stop}")),
            Ok(mut node) => {
                let books = node.books().expect("the books can be read");
                if books.ledger() != intact.ledger() {
                    let what = format!(
                        "node {} lost something to a bit at byte {offset} of {path}, and starts",
                        seller.0
                    );
                    broken(7, what, Concerned::default());
                }
                self.oracle.check_books(seller, |vend| books.find(vend));
                self.trace.note("decay did not matter", subject, || path.clone());
            }
        }
    }

    fn set_dealer(&mut self, state: State, dice: &mut Dice) {
        self.order(Command::SetDealer { dealer: 1, state }, dice);
    }

    fn other_marks(&mut self, at: usize, dice: &mut Dice) {
        let (low, target, high) = match dice.below(3) {
            0 => marks(true, false),
            1 => marks(false, self.parents[at].is_some()),
            _ => (0, 1, 1),
        };
        self.sites[at].levels = Levels::new(low, target, high).expect("marks go up");
        self.start_node(at);
    }

    /// A server that cannot be reached is declared lost. It comes back later; its terminals go elsewhere.
    fn lose_node(&mut self, at: usize, dice: &mut Dice) {
        let has_below = self.parents.contains(&Some(at));
        let others = (0..self.sites.len()).filter(|other| *other != at && !self.lost.contains(other));
        let others: Vec<_> = others.collect();
        if has_below
            || self.parents[at].is_some()
            || self.lost.contains(&at)
            || others.is_empty()
            || !self.hub_is_up()
        {
            return;
        }
        self.cut(at);
        self.tell_upper(at);
        let node = self.sites[at].seller;
        let (position, ledger) = archived(&self.hub, &self.hub_disk, node);
        if self.order(Command::Lose { node, spent: Spent::of(position, &ledger) }, dice).is_none() {
            return;
        }
        self.trace.note("node declared lost", Subject::node(node), String::new);
        self.lost.push(at);
        self.links[at].parted_until = self.step + dice.below(4_000);
        for till in 0..self.terminals.len() {
            if self.terminals[till].site == at {
                let to = others[dice.below(others.len() as u64) as usize];
                self.roam(till, to);
            }
        }
    }

    /// A copy of a node's disk is made; or, if there is one that upstream can know to be old, a node is started on it. It has to
    /// stop at its first contact, before it sells anything.
    fn start_old_copy(&mut self, at: usize, dice: &mut Dice) {
        let Some(copy) = self.copies.remove(&at) else {
            let copy = self.sites[at].disk.copy();
            copy.lose_power(|| 0);
            self.copies.insert(at, copy);
            return;
        };
        let seller = self.sites[at].seller;
        let Ok(books) = Node::recover(Arc::new(copy.copy())) else { return };
        let is_below = self.parents[at].is_some();
        let known = self.hub.journal_acked(seller).unwrap_or(0);
        if known <= books.position().0 || is_below || !self.hub_is_up() || self.lost.contains(&at) {
            return;
        }
        self.cut(at);
        self.tell_upper(at);
        let started = self.sites[at].start_on(Arc::new(copy));
        let mut node = started.expect("what was a disk once can be started on");
        node.handle_reconnected();
        let mut stopped = None;
        for _ in 0..OLD_COPY_STEPS_MAX {
            while let Some(message) = node.to_hub.pop_front() {
                self.hub.handle_link(seller, message, self.now.unix_ms).expect("an old node stops no hub");
            }
            self.hub.commit().expect("an old node stops no hub");
            let mut said = Vec::new();
            while let Some(output) = self.hub.poll_output() {
                match output {
                    crate::hub::Output::Send { node, message } if node == seller => said.push(message),
                    crate::hub::Output::Send { node, message } => self.send_down(node, message),
                    _ => {}
                }
            }
            let handed =
                said.into_iter().try_for_each(|message: ToNode| node.handle_message(message, &self.now));
            if let Err(stop) = handed.and_then(|()| node.step(dice, &self.now).map(|_| ())) {
                stopped = Some(stop);
                break;
            }
        }
        self.hub.handle_cut(seller);
        self.commit_hub();
        match stopped {
            Some(stop) if stop.is_old_copy() => {
                self.trace.note("old copy found out", Subject::node(seller), || stop.to_string());
            }
            other => {
                let what = format!(
                    "node {} runs on an old copy of its disk, and is not found out: {other:?}",
                    seller.0
                );
                broken(7, what, Concerned::default());
            }
        }
        self.start_node(at);
    }

    /// Another delivery of some variety.
    fn deliver_more(&mut self, dice: &mut Dice) {
        if !self.hub_is_up() || self.minted > MINTED_MAX || self.hub_disk_is_bad() {
            return;
        }
        let (variety, face_value) = self.varieties[dice.below(4) as usize];
        let count = 20 + dice.below(60) as u32;
        let order = (variety, face_value, count);
        // Numbers that nobody has had yet.
        let serials_before = 100_000 + self.minted;
        self.minted += count;
        let Some(reserved) = self.order(Command::Reserve { blocks: 4 }, dice) else { return };
        let Self { hub_disk, fingerprints, now, oracle, .. } = self;
        let delivery = make(&reserved, hub_disk, fingerprints, order, serials_before, dice, now, oracle);
        self.order(Command::Deliver(delivery), dice);
    }

    /// Whether something that the hub writes may fail.
    fn hub_disk_is_bad(&self) -> bool {
        self.may_stop[self.sites.len()] || self.hub_disk.is_limited()
    }

    /// Law 1 by the audit, which reads one book after the other while everything goes on. Nodes below come before their servers.
    fn audit_while_running(&mut self, dice: &mut Dice) {
        let mut sellers = Vec::new();
        for at in (0..self.sites.len()).rev() {
            sellers.push(self.seller_books(at));
            for _ in 0..dice.below(40) {
                self.begin_step();
                self.step();
            }
        }
        if self.lost.is_empty() {
            self.check_audit(&sellers);
        }
        self.check_places();
    }
}

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Steps in which an old copy has to be found out.
const OLD_COPY_STEPS_MAX: u32 = 2_000;
/// No more PINs of a variety are made.
const MINTED_MAX: u32 = 1_000;
