//! What each kind of fault does.

use super::broken::{Concerned, broken};
use super::dice::Dice;
use super::faults::Kind;
use super::node::{Node, NodeStop};
use super::office::make;
use super::trace::Subject;
use super::world::{MAX_SKEW_MS, Till, World, asker, marks};
use crate::hub::{Command, Done};
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
                let link = &mut self.links[at];
                link.parted_until = link.parted_until.max(self.step + dice.below(3_000));
            }
            Kind::Stall => {
                let until = self.step + dice.below(1_500);
                self.links[at].stalled_until[dice.below(2) as usize] = until;
            }
            Kind::Slow => self.links[at].slow_until = self.step + dice.below(3_000),
            Kind::Reconnect => self.reconnect(till),
            Kind::RelayDies | Kind::RelayCut | Kind::RelayPause | Kind::RelayRenew => {
                let relays = self.relays.len() as u64;
                if relays > 0 {
                    self.strike_relay(kind, dice.below(relays) as usize, dice);
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
                if self.is_member(at) {
                    let on = self.hub.node_drain(node).is_none();
                    self.order(Command::Drain { node, on }, dice);
                }
            }
            Kind::DrainHub => _ = self.order(Command::DrainHub { on: true }, dice),
            Kind::UndrainHub => _ = self.order(Command::DrainHub { on: false }, dice),
            Kind::Marks => self.other_marks(at, dice),
            Kind::Lose => self.begin_to_lose(at, dice),
            Kind::WriteOff => {
                // Whichever there is.
                if let Some(&at) = self.lost.get(dice.below(self.lost.len() as u64) as usize) {
                    self.write_off(at, dice);
                }
            }
            Kind::Leave => self.begin_to_leave(at, dice),
            Kind::OldCopy => self.start_old_copy(at, dice),
            Kind::OldHub => self.start_old_hub(dice),
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
        self.cut_all(at);
        self.is_down[at] = false;
        // Stopped by a failing sync, it found a disk again that does not fail.
        self.sites[at].disk.fail_sync_after(None);
        self.may_stop[at] = false;
        if let Err(stop) = self.sites[at].start() {
            self.not_started(at, &stop);
        }
        self.lose_server(at);
        for till in 0..self.terminals.len() {
            if self.terminals[till].site == at && self.terminals[till].relay.is_none() {
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

    /// A terminal goes to another seller, or comes to it through a relay.
    pub(super) fn roam(&mut self, till: usize, to: usize) {
        if self.is_down[to] {
            return;
        }
        self.hang_up(till);
        let relays: Vec<_> = (0..self.relays.len()).filter(|relay| self.relays[*relay].site == to).collect();
        let relay = relays.first().copied().filter(|_| self.dice.one_in(2));
        let till_row = &mut self.terminals[till];
        (till_row.site, till_row.relay) = (to, relay);
        self.connect_terminal(till);
    }

    /// A terminal gets a new key: whoever is connected with the old one is sent away.
    fn rekey(&mut self, at: usize, dice: &mut Dice) {
        let Till { terminal, site, relay, .. } = &self.terminals[at];
        let (id, asker, site, is_carried) = (terminal.id, asker(terminal, 0), *site, relay.is_some());
        let Some(Done::Keys(keys)) = self.order(Command::Rekey { terminal: id }, dice) else { return };
        if is_carried {
            self.end_carried(site, id, None);
        } else {
            self.sites[site].node.handle_closed(&asker);
        }
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
            0 => (3, 9, 12),
            1 => marks(&self.plan, self.parents[at].is_some()),
            _ => (0, 1, 1),
        };
        self.sites[at].levels = Levels::new(low, target, high).expect("marks go up");
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
/// No more PINs of a variety are made.
const MINTED_MAX: u32 = 1_000;
