//! What may come between: starts and cuts in any turn.

use super::*;

/// What happens to somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disturbance {
    /// A site is killed and started again.
    Restart(usize),
    /// The hub is.
    RestartHub,
    /// The link of a site with the one above it is cut, and comes up again.
    Cut(usize),
}

impl Net {
    pub(super) fn disturb(&mut self, what: Disturbance) {
        match what {
            Disturbance::Restart(site) => self.restart(site),
            Disturbance::RestartHub => self.restart_hub(),
            Disturbance::Cut(site) => {
                self.cut(site);
                self.sites[site].reconnect();
            }
        }
    }

    /// So many turns, one of them after a disturbance, and then until all is at rest; with law 1 after each, as the hub can tell it.
    pub(super) fn turn_through(&mut self, turns: u32, at: u32, what: Disturbance) {
        for turn in 0..turns {
            if turn == at {
                self.disturb(what);
            }
            self.turn();
            self.audit_from_archives();
        }
        self.settle();
    }

    /// A site answers nobody any more, nor when it is started where nobody can reach it.
    pub(super) fn check_stopped(&mut self, site: usize) {
        let refuses = |net: &mut Self| {
            net.ask(site);
            net.settle();
            net.answers(site) == [Sale::Later(LaterReason::Stopping)]
        };
        assert!(refuses(self), "it never sells again");
        self.leave(site);
        self.restart(site);
        assert!(refuses(self), "nor alone after another start");
    }
}
