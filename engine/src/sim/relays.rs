//! Relays: host connection managers without stock, which carry the sessions of many terminals to one server.
//!
//! The real one is built around its sockets (`net/relay`), so here is what `spec/link.md` section 14 promises of it: one connection with
//! each worker of its server, which keeps the order of what is on it and loses nothing until it ends; every session on it has a
//! number that is never used again; what comes for a number that is not open any more is dropped, at either end. When the
//! connections end, all sessions on them are over, but what a relay had said before may arrive later, when its terminals have long been
//! connected anew.

use super::dice::Dice;
use super::faults::Kind;
use super::trace::Subject;
use super::world::{World, asker};
use crate::ids::TerminalId;
use crate::seller::Asker;
use std::collections::{BTreeMap, VecDeque};
use wire::message::{Reply, Request};

/// One relay.
pub(super) struct Relay {
    /// Its server, as a place in the list of sites.
    pub(super) site: usize,
    /// One for each worker of the server; none while it is not connected.
    lines: Vec<Line>,
    /// Before this step it does not connect.
    up_after: u64,
    /// Before this step it stands still.
    paused_until: u64,
    /// The last session's number.
    last: u32,
}

/// A connection with one worker of a server.
pub(super) struct Line {
    relay: usize,
    site: usize,
    up: VecDeque<(u32, Up)>,
    down: VecDeque<(u32, Down)>,
    /// The sessions that the server's end knows.
    open: BTreeMap<u32, Asker>,
}

/// What a relay says.
enum Up {
    Open(Asker),
    Frame(u16, Request),
    End,
}

/// What a worker says.
enum Down {
    Frame(u16, Reply),
    End,
}

impl Relay {
    /// A relay that is yet to connect with its server.
    pub(super) fn new(site: usize) -> Self {
        Self { site, lines: Vec::new(), up_after: 0, paused_until: 0, last: 0 }
    }
}

impl World<'_> {
    /// Something happens to a relay.
    pub(super) fn strike_relay(&mut self, kind: Kind, relay: usize, dice: &mut Dice) {
        let step = self.step;
        match kind {
            Kind::RelayPause => self.relays[relay].paused_until = step + dice.below(1_500),
            Kind::RelayRenew => {
                let site = dice.below(self.sites.len() as u64) as usize;
                if !self.is_down[site] {
                    self.renew(relay, site, dice.below(60));
                }
            }
            Kind::RelayCut => {
                self.leave_lines(relay, dice.below(200));
                // Both directions: of what it said only a part has arrived.
                for line in self.left_lines.iter_mut().filter(|line| line.relay == relay) {
                    line.up.truncate(dice.below(4) as usize);
                }
            }
            _ => {
                self.crashes += 1;
                self.leave_lines(relay, dice.below(600));
                self.relays[relay].paused_until = 0;
                // Some have another way.
                for till in 0..self.terminals.len() {
                    let to = dice.below(self.sites.len() as u64) as usize;
                    if self.terminals[till].relay == Some(relay) && dice.one_in(4) && !self.is_down[to] {
                        self.terminals[till].relay = None;
                        self.terminals[till].site = to;
                        self.reconnect(till);
                    }
                }
            }
        }
    }

    /// Relays whose server is there no more go to another.
    pub(super) fn move_relays(&mut self, from: usize) {
        let others: Vec<_> =
            (0..self.sites.len()).filter(|site| *site != from && !self.is_down[*site]).collect();
        let to = others[self.dice.below(others.len() as u64) as usize];
        self.renew_all(from, to);
    }

    /// All relays whose server is at one site use that at another from now on.
    pub(super) fn renew_all(&mut self, from: usize, to: usize) {
        for relay in 0..self.relays.len() {
            if self.relays[relay].site == from {
                self.renew(relay, to, 0);
            }
        }
    }

    fn renew(&mut self, relay: usize, site: usize, after: u64) {
        self.leave_lines(relay, after);
        self.relays[relay].site = site;
        for till in self.terminals.iter_mut().filter(|till| till.relay == Some(relay)) {
            till.site = site;
        }
    }

    /// A relay's connections end: so do all sessions on them. The server's end may hear what was on its way, and hears the end later.
    fn leave_lines(&mut self, relay: usize, after: u64) {
        let row = &mut self.relays[relay];
        row.up_after = self.step + after;
        self.left_lines.append(&mut row.lines);
        self.end_sessions(relay);
    }

    /// A server's process has ended, and with it its end of all lines.
    pub(super) fn lose_server(&mut self, site: usize) {
        self.left_lines.retain(|line| line.site != site);
        for relay in 0..self.relays.len() {
            if self.relays[relay].site == site {
                self.relays[relay].lines.clear();
                self.end_sessions(relay);
            }
        }
    }

    /// The terminals of a relay are told to begin anew: they do when it has a server.
    fn end_sessions(&mut self, relay: usize) {
        for till in self.terminals.iter_mut().filter(|till| till.relay == Some(relay)) {
            till.carried = None;
            till.requests.clear();
            till.replies.clear();
            till.terminal.connect();
        }
    }

    /// The relay connects with its server: whatever is left of earlier connections between them is replaced.
    fn come_up(&mut self, relay: usize) -> bool {
        let Relay { site, up_after, .. } = self.relays[relay];
        if self.step < up_after || self.is_down[site] {
            return false;
        }
        let mut at = 0;
        while at < self.left_lines.len() {
            let line = &self.left_lines[at];
            if (line.relay, line.site) == (relay, site) {
                self.drop_left_line(at);
            } else {
                at += 1;
            }
        }
        let line = |_| {
            let (up, down, open) = Default::default();
            Line { relay, site, up, down, open }
        };
        self.relays[relay].lines = (0..self.sites[site].workers).map(line).collect();
        for till in 0..self.terminals.len() {
            if self.terminals[till].relay == Some(relay) {
                self.carry_hello(till);
            }
        }
        true
    }

    fn drop_left_line(&mut self, at: usize) {
        let line = self.left_lines.swap_remove(at);
        let node = &mut self.sites[line.site].node;
        line.open.values().for_each(|asker| node.handle_closed(asker));
    }

    /// A terminal's connection to its seller, or its relay, is no more.
    pub(super) fn hang_up(&mut self, till: usize) {
        let Some(relay) = self.terminals[till].relay else {
            if self.dice.one_in(2) {
                let asker = asker(&self.terminals[till].terminal, 0);
                self.sites[self.terminals[till].site].node.handle_closed(&asker);
            }
            return;
        };
        // The relay may not have heard.
        if let Some(session) = self.terminals[till].carried.take()
            && self.dice.one_in(2)
        {
            self.say_carried(relay, till, session, Up::End);
        }
    }

    /// A terminal says hello to its relay, which passes it on if it can.
    pub(super) fn carry_hello(&mut self, till: usize) {
        let row = &mut self.terminals[till];
        let Some(relay) = row.relay else { return };
        let of_relay = &mut self.relays[relay];
        if of_relay.lines.is_empty() {
            return;
        }
        of_relay.last += 1;
        let session = of_relay.last;
        row.carried = Some(session);
        let asker = asker(&row.terminal, 0);
        self.say_carried(relay, till, session, Up::Open(asker));
    }

    fn say_carried(&mut self, relay: usize, till: usize, session: u32, what: Up) {
        let home = self.terminals[till].terminal.id.0;
        let lines = &mut self.relays[relay].lines;
        let workers = lines.len() as u64;
        if workers > 0 {
            lines[(home % workers) as usize].up.push_back((session, what));
        }
    }

    /// The relay takes a request from a terminal's connection.
    pub(super) fn carry_request(&mut self, till: usize) -> bool {
        let row = &mut self.terminals[till];
        let (Some(relay), Some(session)) = (row.relay, row.carried) else { return false };
        if self.step < self.relays[relay].paused_until {
            return false;
        }
        let Some((correlation, request)) = row.requests.pop_front() else { return false };
        self.say_carried(relay, till, session, Up::Frame(correlation, request));
        true
    }

    /// A relay connects, or something moves between one and a server.
    pub(super) fn step_relay(&mut self) -> bool {
        let relay = self.dice.below(self.relays.len() as u64) as usize;
        match self.dice.below(8) {
            0 if !self.left_lines.is_empty() => {
                let at = self.dice.below(self.left_lines.len() as u64) as usize;
                if self.dice.one_in(6) {
                    self.drop_left_line(at);
                } else if let Some((session, what)) = self.left_lines[at].up.pop_front() {
                    self.hear_carried(Which::Left(at), session, what);
                }
                true
            }
            _ if self.step < self.relays[relay].paused_until => false,
            _ if self.relays[relay].lines.is_empty() => self.come_up(relay),
            way => {
                let worker = self.dice.below(self.relays[relay].lines.len() as u64) as usize;
                let line = &mut self.relays[relay].lines[worker];
                if way < 5 {
                    let Some((session, what)) = line.up.pop_front() else { return false };
                    self.hear_carried(Which::Of(relay, worker), session, what);
                } else {
                    let Some((session, what)) = line.down.pop_front() else { return false };
                    self.pass_down(relay, session, what);
                }
                true
            }
        }
    }

    /// Something that a worker said is for a terminal.
    fn pass_down(&mut self, relay: usize, session: u32, what: Down) {
        let is_its = |till: &super::world::Till| (till.relay, till.carried) == (Some(relay), Some(session));
        match (self.terminals.iter().position(is_its), what) {
            (Some(till), Down::Frame(correlation, reply)) => {
                self.terminals[till].replies.push_back((correlation, reply));
            }
            // It has no session any more, and asks for another.
            (Some(till), Down::End) => self.connect_terminal(till),
            (None, Down::Frame(..)) => {
                self.trace.note("late reply dropped", Subject::default().number(session.into()), String::new);
            }
            (None, Down::End) => {}
        }
    }

    /// Something that a relay said arrives at a worker.
    fn hear_carried(&mut self, which: Which, session: u32, what: Up) {
        let line = self.line(which);
        let site = line.site;
        match what {
            Up::Open(asker) => {
                line.open.insert(session, asker);
                self.sites[site].node.handle_connected(&asker);
            }
            Up::End => {
                if let Some(asker) = line.open.remove(&session) {
                    self.sites[site].node.handle_closed(&asker);
                }
            }
            Up::Frame(correlation, request) => match line.open.get(&session).copied() {
                Some(asker) => {
                    self.end_carried(site, asker.terminal, Some(asker.session));
                    self.hear_request(site, &Asker { correlation, ..asker }, &request);
                }
                None => self.trace.note(
                    "late request dropped",
                    Subject::default().number(session.into()),
                    String::new,
                ),
            },
        }
    }

    /// A terminal has proven itself in one session: all others that it has at the site are over.
    pub(super) fn end_carried(&mut self, site: usize, terminal: TerminalId, but: Option<u64>) {
        let lines = self.relays.iter_mut().flat_map(|relay| &mut relay.lines).chain(&mut self.left_lines);
        let node = &mut self.sites[site].node;
        for line in lines.filter(|line| line.site == site) {
            let Line { open, down, .. } = line;
            open.retain(|session, asker| {
                let stays = asker.terminal != terminal || Some(asker.session) == but;
                if !stays {
                    node.handle_closed(asker);
                    down.push_back((*session, Down::End));
                }
                stays
            });
        }
    }

    /// A reply for a session that is carried: onto its line. Whether there is one.
    pub(super) fn carry_reply(&mut self, site: usize, asker: &Asker, reply: &Reply) -> bool {
        let lines = self.relays.iter_mut().flat_map(|relay| &mut relay.lines).chain(&mut self.left_lines);
        for line in lines.filter(|line| line.site == site) {
            let session =
                line.open.iter().find(|(_, open)| open.session == asker.session).map(|(session, _)| *session);
            if let Some(session) = session {
                line.down.push_back((session, Down::Frame(asker.correlation, reply.clone())));
                return true;
            }
        }
        false
    }

    /// Nothing stands in the way of relays any more.
    pub(super) fn calm_relays(&mut self) {
        for relay in &mut self.relays {
            (relay.paused_until, relay.up_after) = (0, 0);
        }
    }

    fn line(&mut self, which: Which) -> &mut Line {
        match which {
            Which::Of(relay, worker) => &mut self.relays[relay].lines[worker],
            Which::Left(at) => &mut self.left_lines[at],
        }
    }
}

#[derive(Clone, Copy)]
enum Which {
    /// Of a relay, to a worker.
    Of(usize, usize),
    /// Left by its relay.
    Left(usize),
}
