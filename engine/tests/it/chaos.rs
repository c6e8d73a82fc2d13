//! Real processes in trouble: a hub, two servers, a relay and a cache, with tills on all of them that sell without end, while
//! processes are killed, stopped for a while, cut off, slowed down and deafened, and a disk is full. Then what the tills hold is
//! compared with what the processes say, with the hub's ledger, and with the journals.
//!
//! `PINWHEEL_SEED` chooses what happens (it is printed), `PINWHEEL_CHAOS_S` for how long.

use crate::network::is_reported;
use crate::support::load::{Load, check_books, check_live};
use crate::support::nodes::{Settings, Site, free_port, furnish};
use crate::support::process::{Process, SMALL_SEGMENT_BYTES};
use crate::support::proxy::Proxy;
use crate::support::small_disk::SmallDisk;
use crate::support::{lacking, scratch};
use Who::{Cache, Hub, One, Relay, Two};
use engine::admin::KeyRow;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Hub,
    One,
    Two,
    Relay,
    Cache,
}

/// Terminals sell at [`One`], also over [`Relay`], at [`Two`], and at [`Cache`], which is below [`One`].
struct Town {
    site: Site,
    /// In the order of [`Who`].
    processes: [Option<Process>; 5],
    /// From both servers to the hub, and from relay and cache to the first server.
    wires: [Proxy; 4],
    settings: [Settings; 3],
}

impl Town {
    fn new(site: Site) -> Self {
        let links = [free_port(), free_port()];
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let wires = [nowhere, nowhere, links[0], links[0]].map(|target| Proxy::start(target, Duration::ZERO));
        let settings = |levels, links| Settings { levels, links, ..Settings::default() };
        let any = Settings::default().links;
        let settings = [
            settings((300, 1500, 3000), links[0]),
            settings((300, 1500, 3000), links[1]),
            settings((50, 200, 400), any),
        ];
        let mut town = Self { site, processes: Default::default(), wires, settings };
        town.start(Hub);
        furnish(town.of(Hub), 1);
        town.of(Hub).mint("v1", 50_000);
        ["one", "two"].iter().for_each(|name| _ = town.site.admit(town.of(Hub), name));
        town.site.admit_below(town.of(Hub), "cache", "one");
        town.site.admit_relay(town.of(Hub), "kiosks");
        [One, Two, Relay, Cache].into_iter().for_each(|who| town.start(who));
        for who in [One, Two, Cache] {
            town.of(who).wait_for("stock", |status| status.varieties.first().is_some_and(|v| v.sellable > 0));
        }
        town.of(Relay).wait_for("the server", |status| status.relay.as_ref().unwrap().server.is_some());
        town
    }

    fn of(&self, who: Who) -> &Process {
        self.processes[who as usize].as_ref().expect("it runs")
    }

    /// Starts a process, in the place of the one that was killed.
    fn start(&mut self, who: Who) {
        let [one, two, relay, cache] = &self.wires;
        let process = match who {
            Hub => {
                let hub = self.site.hub();
                [one, two].into_iter().for_each(|wire| wire.aim(hub.address));
                hub
            }
            One => self.site.server("one", one.address, &self.settings[0]),
            Two => self.site.server("two", two.address, &self.settings[1]),
            Relay => self.site.relay("kiosks", &[relay.address]),
            Cache => self.site.cache("cache", cache.address, &self.settings[2]),
        };
        self.processes[who as usize] = Some(process);
    }

    fn kill(&mut self, who: Who) {
        self.processes[who as usize].take().into_iter().for_each(Process::kill);
    }
}

/// What lasts for a moment. Meanwhile something may be killed.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Nothing,
    Stopped(Who),
    Cut(usize),
    Deaf(usize),
    Slow(usize),
    FullDisk,
}

impl Trouble {
    fn begin(self, town: &Town, disk: Option<&SmallDisk>) {
        match self {
            Self::Nothing => {}
            Self::Stopped(who) => town.of(who).signal("STOP"),
            Self::Cut(wire) => town.wires[wire].cut(),
            Self::Deaf(wire) => town.wires[wire].deafen(),
            Self::Slow(wire) => town.wires[wire].slow_down(Duration::from_millis(200)),
            Self::FullDisk => disk.into_iter().for_each(SmallDisk::fill),
        }
    }

    fn end(self, town: &Town, disk: Option<&SmallDisk>) {
        match self {
            Self::Nothing => {}
            Self::Stopped(who) => town.of(who).signal("CONT"),
            Self::Cut(wire) | Self::Deaf(wire) => town.wires[wire].heal(),
            Self::Slow(wire) => town.wires[wire].slow_down(Duration::ZERO),
            Self::FullDisk => disk.into_iter().for_each(SmallDisk::free),
        }
    }

    /// One that is stopped is not killed here, and one whose disk is full is not started.
    fn spares(self, who: Who) -> bool {
        matches!(self, Self::Stopped(stopped) if stopped == who)
            || matches!((self, who), (Self::FullDisk, Two))
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn who(&mut self) -> Who {
        ALL[self.roll(5) as usize]
    }

    fn trouble(&mut self) -> Trouble {
        let wire = self.roll(4) as usize;
        match self.roll(8) {
            0 | 1 => Trouble::Nothing,
            2 | 3 => Trouble::Stopped(self.who()),
            4 => Trouble::Cut(wire),
            5 => Trouble::Deaf(wire),
            6 => Trouble::Slow(wire),
            _ => Trouble::FullDisk,
        }
    }

    /// The only thing waited for is the passing of time: the moment of a fault is to be anywhere.
    fn moment(&mut self) {
        thread::sleep(Duration::from_millis(30 + self.roll(400)));
    }
}

const ALL: [Who; 5] = [Hub, One, Two, Relay, Cache];
/// Where terminals are.
const SELLING: [Who; 4] = [One, Two, Relay, Cache];
const TILLS: usize = 2;
const OF: (u32, u64) = (1, 1000);

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("it is a number"))
}

#[test]
fn laws_1_2_4_8_kills_stops_cuts_delays_and_a_full_disk_on_five_processes() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let seed = environment("PINWHEEL_SEED").unwrap_or(now.subsec_nanos().into());
    let seconds = environment("PINWHEEL_CHAOS_S").unwrap_or(15);
    println!("PINWHEEL_SEED={seed} PINWHEEL_CHAOS_S={seconds}");
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let disk = SmallDisk::mount(&site.data("two"), 48 << 20);
    if disk.is_none() {
        lacking("the right to mount a tmpfs");
    }
    let mut town = Town::new(site);
    let keys = town.of(Hub).add_terminals((SELLING.len() * TILLS) as u32);
    let groups: Vec<(Who, &[KeyRow])> = SELLING.into_iter().zip(keys.chunks(TILLS)).collect();
    for (who, keys) in &groups {
        keys.iter().for_each(|key| town.of(*who).await_terminal(key));
    }
    let pause = Duration::from_millis(10);
    let loads: Vec<_> =
        groups.iter().map(|(who, keys)| Load::start_paced(town.of(*who), keys, OF, pause)).collect();

    let (mut dice, mut kills, mut troubles) = (Dice(seed), [0; 5], 0);
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let trouble = dice.trouble();
        let victim = Some(dice.who()).filter(|who| !trouble.spares(*who) && dice.roll(3) > 0);
        println!("{trouble:?}, killed: {victim:?}");
        trouble.begin(&town, disk.as_ref());
        troubles += u32::from(!matches!(trouble, Trouble::Nothing));
        dice.moment();
        if let Some(who) = victim {
            town.kill(who);
            dice.moment();
            town.start(who);
            kills[who as usize] += 1;
            let moved = groups.iter().zip(&loads).filter(|((group, _), _)| *group == who);
            moved.for_each(|(_, load)| load.moved_to(town.of(who)));
        }
        dice.moment();
        trouble.end(&town, disk.as_ref());
        dice.moment();
    }

    let told: Vec<_> = loads.into_iter().map(Load::finish).collect();
    let receipts: Vec<u64> =
        told.iter().flatten().flat_map(|told| told.sold.values().map(|(_, reference)| *reference)).collect();
    let distinct: HashSet<_> = receipts.iter().collect();
    assert_eq!(distinct.len(), receipts.len(), "law 1: a PIN is on two receipts");
    for ((who, keys), told) in groups.iter().zip(&told) {
        check_live(town.of(*who), keys, told, OF);
    }
    for who in [One, Two, Cache] {
        town.of(who).wait_for("its journal at the hub", is_reported);
    }
    let sold = receipts.len() as u64;
    let status = town.of(Hub).wait_for("all sales", |status| status.varieties[0].sold == sold);
    let variety = &status.varieties[0];
    let sum = variety.hub + variety.in_transfer + variety.at_seller + variety.sold + variety.withdrawn;
    assert_eq!(sum, variety.received, "{variety:?}");
    town.of(Hub).audit();
    ALL.into_iter().for_each(|who| town.kill(who));
    for ((who, keys), told) in groups.iter().zip(&told) {
        let seller = ["", "one", "two", "one", "cache"][*who as usize];
        check_books(&town.site.data(seller), SMALL_SEGMENT_BYTES, keys, told);
    }
    println!(
        "{sold} PINs sold through {troubles} troubles and {} kills: {kills:?} of {ALL:?}",
        kills.iter().sum::<u32>()
    );
    assert!(sold > 100, "only {sold} PINs were sold");
}
