//! Five processes, the wires between them, and the disks of three.

use crate::support::nodes::{Settings, Site, free_port, furnish};
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::small_disk::SmallDisk;
use Who::{Cache, Hub, One, Relay, Two};
use engine::admin::KeyRow;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Who {
    Hub,
    One,
    Two,
    Relay,
    Cache,
}

impl Who {
    pub(super) const ALL: [Self; 5] = [Hub, One, Two, Relay, Cache];
    /// Where terminals are.
    pub(super) const SELLING: [Self; 4] = [One, Two, Relay, Cache];
    /// Those with a disk of their own.
    pub(super) const ON_SMALL_DISKS: [Self; 3] = [Hub, Two, Cache];

    /// What its directory is called.
    pub(super) fn name(self) -> &'static str {
        ["hub", "one", "two", "kiosks", "cache"][self as usize]
    }

    /// Who sells to the terminals that are here.
    pub(super) fn seller(self) -> Self {
        if self == Relay { One } else { self }
    }
}

/// Terminals sell at [`One`], also over [`Relay`], at [`Two`], and at [`Cache`], which is below [`One`].
pub(super) struct Town {
    site: Site,
    /// In the order of [`Who`].
    processes: [Option<Process>; 5],
    /// In the order of [`Who::ON_SMALL_DISKS`]; none where this machine lets nobody mount one. Below the processes: they end first.
    disks: Vec<SmallDisk>,
    /// From both servers to the hub, and from relay and cache to the first server.
    pub(super) wires: [Proxy; 4],
    /// From terminals to [`Two`] and to [`Cache`], wherever those are: for whom cannot be told that they have moved.
    doors: [Proxy; 2],
    settings: [Settings; 3],
}

impl Town {
    /// Runs them all, with so much stock of each of two varieties. Disks are large enough for so many seconds of sales.
    pub(super) fn new(site: Site, stock: u32, seconds: u64) -> Self {
        let disks = Who::ON_SMALL_DISKS
            .iter()
            .map(|who| SmallDisk::mount(&site.data(who.name()), (64 + seconds) << 20));
        let disks: Vec<_> = disks.flatten().collect();
        let links = [free_port(), free_port()];
        let wires = [NOWHERE, NOWHERE, links[0], links[0]].map(|target| Proxy::start(target, Duration::ZERO));
        let doors = [NOWHERE; 2].map(|target| Proxy::start(target, Duration::ZERO));
        let settings = |levels, links| Settings { levels, links, ..Settings::default() };
        let any = Settings::default().links;
        let settings = [
            settings((300, 1500, 3000), links[0]),
            settings((300, 1500, 3000), links[1]),
            settings((50, 200, 400), any),
        ];
        let mut town = Self { site, processes: Default::default(), disks, wires, doors, settings };
        town.start(Hub);
        furnish(town.of(Hub), 2);
        ["v1", "v2"].iter().for_each(|variety| town.of(Hub).mint(variety, stock));
        [One, Two].iter().for_each(|who| _ = town.site.admit(town.of(Hub), who.name()));
        town.site.admit_below(town.of(Hub), Cache.name(), One.name());
        town.site.admit_relay(town.of(Hub), Relay.name());
        [One, Two, Relay, Cache].into_iter().for_each(|who| town.start(who));
        for who in [One, Two, Cache] {
            town.of(who).wait_for("stock", |status| {
                status.varieties.len() == 2 && status.varieties.iter().all(|variety| variety.sellable > 0)
            });
        }
        town.of(Relay).wait_for("the server", |status| status.relay.as_ref().unwrap().server.is_some());
        town
    }

    pub(super) fn of(&self, who: Who) -> &Process {
        self.running(who).expect("it runs")
    }

    /// None, if it was killed and not started again.
    pub(super) fn running(&self, who: Who) -> Option<&Process> {
        self.processes[who as usize].as_ref()
    }

    pub(super) fn data(&self, who: Who) -> PathBuf {
        self.site.data(who.name())
    }

    /// The disk of one that has its own, if this machine has such disks.
    pub(super) fn disk(&self, who: Who) -> Option<&SmallDisk> {
        let at = Who::ON_SMALL_DISKS.iter().position(|small| *small == who)?;
        self.disks.get(at)
    }

    /// Where terminals reach [`Two`] and [`Cache`] at all times.
    pub(super) fn doors(&self) -> [SocketAddr; 2] {
        self.doors.each_ref().map(|door| door.address)
    }

    /// Starts a process, in the place of the one that was killed.
    pub(super) fn start(&mut self, who: Who) {
        let [one, two, relay, cache] = &self.wires;
        let process = match who {
            Hub => self.site.hub(),
            One => self.site.server(who.name(), one.address, &self.settings[0]),
            Two => self.site.server(who.name(), two.address, &self.settings[1]),
            Relay => self.site.relay(who.name(), &[relay.address]),
            Cache => self.site.cache(who.name(), cache.address, &self.settings[2]),
        };
        match who {
            Hub => [one, two].into_iter().for_each(|wire| wire.aim(process.address)),
            Two => self.doors[0].aim(process.address),
            Cache => self.doors[1].aim(process.address),
            One | Relay => {}
        }
        self.processes[who as usize] = Some(process);
    }

    /// Nothing, if it does not run.
    pub(super) fn kill(&mut self, who: Who) {
        self.processes[who as usize].take().into_iter().for_each(Process::kill);
    }
}

/// Terminals' keys as the load generator reads them.
pub(super) fn write_keys(path: &PathBuf, keys: &[KeyRow]) {
    let mut text = "terminal,dealer,key_epoch,key\n".to_owned();
    for KeyRow { terminal, dealer, key_epoch, key, .. } in keys {
        let hex = key.expose().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        writeln!(text, "{terminal},{dealer},{key_epoch},{hex}").unwrap();
    }
    fs::write(path, text).unwrap();
}

/// Nobody listens there.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
