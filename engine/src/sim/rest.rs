//! The end of a run: no more faults, and everything must come to rest.

use super::broken::{Concerned, broken};
use super::dice::Dice;
use super::office::read_archived;
use super::trace::Subject;
use super::watch;
use super::world::World;
use crate::hub::Command;
use crate::hub::books::Place;
use crate::registry::State;

impl World<'_> {
    /// Every terminal must learn what became of every sequence it used, every transfer must end, and the hub must have everybody's
    /// journal, in bounded time.
    pub(super) fn come_to_rest(&mut self) {
        let mut dice = Dice::new(self.plan.seed);
        self.lift_limits();
        // Wall clocks are set right: some timers of the hub run by them.
        self.skews.fill(0);
        self.now.unix_ms = self.now.unix_ms.max(self.latest_ms);
        self.calm_relays();
        self.hub_away_until.take().into_iter().for_each(|_| self.load_hub());
        for at in 0..=self.sites.len() {
            let disk = self.sites.get(at).map_or(&self.hub_disk, |site| &site.disk);
            disk.fail_sync_after(None);
            if let Some(link) = self.links.get_mut(at) {
                (link.parted_until, link.stalled_until, link.slow_until) = (0, [0; 2], 0);
            }
        }
        self.end_errands();
        self.order(Command::DrainHub { on: false }, &mut dice);
        self.order(Command::SetDealer { dealer: 1, state: State::Active }, &mut dice);
        for at in 0..self.sites.len() {
            self.sites[at].node.refuses_write = false;
            let node = self.sites[at].seller;
            if self.is_member(at) {
                self.order(Command::Drain { node, on: false }, &mut dice);
            }
        }
        let home = (0..self.sites.len()).find(|at| self.is_member(*at)).expect("one always stays");
        for site in (0..self.sites.len()).filter(|at| !self.is_member(*at)).collect::<Vec<_>>() {
            self.renew_all(site, home);
        }
        for till in 0..self.terminals.len() {
            self.terminals[till].terminal.finishing = true;
            if !self.is_member(self.terminals[till].site) {
                self.roam(till, home);
            }
        }
        let begun_ms = self.now.monotonic_ms;
        for step in 0_u64.. {
            if step.is_multiple_of(64) && self.is_at_rest() {
                break;
            }
            let passed_ms = self.now.monotonic_ms - begun_ms;
            if step >= REST_STEPS_MAX || passed_ms > REST_MS_MAX {
                let what = format!("no rest after {step} steps and {passed_ms} ms: {}", self.unrest());
                broken(8, what, Concerned::default());
            }
            self.begin_step();
            self.step();
        }
        (0..self.sites.len()).for_each(|at| self.check_books(at));
        self.check_places();
        let sellers: Vec<_> = (0..self.sites.len()).map(|at| self.seller_books(at)).collect();
        self.check_audit(&sellers);
        self.check_disks();
        self.note_records();
    }

    fn is_at_rest(&mut self) -> bool {
        self.terminals.iter().all(|till| till.terminal.is_settled()) && self.unfinished().is_none()
    }

    fn unrest(&mut self) -> String {
        let tills = self.terminals.iter().filter(|till| !till.terminal.is_settled());
        let tills =
            tills.map(|till| format!("terminal {} {}", till.terminal.id.0, till.terminal.unsettled()));
        let mut unrest: Vec<_> = tills.collect();
        unrest.extend(self.unfinished());
        unrest.join("; ")
    }

    /// A transfer that has not ended, or a journal that the hub does not have.
    fn unfinished(&mut self) -> Option<String> {
        let gone = (0..self.sites.len()).filter(|at| self.is_gone(*at));
        let gone: Vec<_> = gone.map(|at| self.sites[at].seller).collect();
        let Self { sites, hub, .. } = self;
        for site in sites.iter_mut().filter(|site| !gone.contains(&site.seller)) {
            let seller = site.seller;
            let books = site.node.books().expect("the books can be read");
            let ledger = books.ledger();
            let own = ledger.given.iter().flat_map(|given| given.open.values());
            let below = ledger.below.iter().filter(|(child, _)| !gone.contains(child));
            let below = below.flat_map(|(_, below)| below.given.iter());
            if let Some(fact) = own.chain(below.flat_map(|given| given.open.values())).next() {
                return Some(format!("node {} has not settled {fact:?}", seller.0));
            }
            let (own, held) = (books.position().0, hub.journal_acked(seller));
            if held != Some(own) {
                return Some(format!(
                    "the journal of node {} goes up to {own}, the hub has {held:?}",
                    seller.0
                ));
            }
        }
        let open = self.hub.audit_books().pieces.into_iter().find(
            |piece| matches!(piece.place, Place::Given { node, settled: false, .. } if !gone.contains(&node)),
        );
        open.map(|piece| format!("the hub has not settled {piece:?}"))
    }

    /// Counts what was recorded, as the hub has it.
    fn note_records(&mut self) {
        for at in 0..self.sites.len() {
            let seller = self.sites[at].seller;
            let trace = &mut *self.trace;
            read_archived(&self.hub, &self.hub_disk, seller, |record| {
                trace.note(watch::record_of(record), Subject::node(seller), String::new);
            });
        }
    }
}

/// By then everything must be at rest.
const REST_STEPS_MAX: u64 = 400_000;
/// In milliseconds of virtual time: an hour is more than anybody waits.
const REST_MS_MAX: u64 = 3 * 60 * 60 * 1000;
