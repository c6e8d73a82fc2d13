//! A hub and one server, each a process of its own.

use crate::network::settle;
use crate::support::ends::Ends;
use crate::support::nodes::{Settings, Site, furnish};
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use End::{Hub, Server};
use engine::admin::KeyRow;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Hub,
    Server,
}

/// A hub and one server, which can be killed and started again.
pub(super) struct Pair {
    pub(super) site: Site,
    pub(super) settings: Settings,
    pub(super) wire: Proxy,
    pub(super) hub: Option<Process>,
    pub(super) server: Option<Process>,
    pub(super) key: KeyRow,
    pub(super) seller: u32,
}

impl Pair {
    /// A hub with stock, and a server with these marks that is not started yet.
    pub(super) fn new(site: Site, levels: (u64, u64, u64), stock: u32) -> Self {
        let hub = site.hub();
        furnish(&hub, 1);
        let key = hub.add_terminals(1).remove(0);
        if stock > 0 {
            hub.mint("v1", stock);
        }
        let seller = site.admit(&hub, SERVER);
        let wire = Proxy::start(hub.address, Duration::ZERO);
        let settings = Settings { levels, ..Settings::default() };
        Self { site, settings, wire, hub: Some(hub), server: None, key, seller }
    }

    pub(super) fn hub(&self) -> &Process {
        self.hub.as_ref().unwrap()
    }

    pub(super) fn server(&self) -> &Process {
        self.server.as_ref().unwrap()
    }

    /// Kills an end, if it runs.
    pub(super) fn kill(&mut self, end: End) {
        let process = if end == Hub { self.hub.take() } else { self.server.take() };
        process.into_iter().for_each(Process::kill);
    }

    pub(super) fn settle(&self, sold: &[String]) {
        settle(self.hub(), &[self.server()], sold);
    }
}

impl Ends for Pair {
    type End = End;
    const ENDS: [End; 2] = [Hub, Server];

    fn end(&self, end: End) -> &Process {
        if end == Hub { self.hub() } else { self.server() }
    }

    fn start(&mut self, end: End) {
        self.kill(end);
        match end {
            Hub => {
                let hub = self.site.hub();
                self.wire.aim(hub.address);
                self.hub = Some(hub);
            }
            Server => {
                self.server = Some(self.site.server(SERVER, self.wire.address, &self.settings));
            }
        }
    }

    fn below(&self) -> u32 {
        self.seller
    }
}

/// What the server is called.
pub(super) const SERVER: &str = "north";
