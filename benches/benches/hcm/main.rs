//! What a host connection manager costs, beside a bare proxy that does nothing but put the bytes of many connections on one.
//!
//! `cargo bench -p benches --bench hcm [-- --rows cpu,low,idle,again] [--rounds N] [--seconds N] [--connections N]`. Every
//! figure is printed beside its floor. All servers have core 0, whoever asks them core 1; `idle` and `again` use both. The
//! median round counts, and what is compared is measured in turn.
//!
//! - `cpu`: processor seconds of the relay for a million sales on 1,000 and on 9,000 connections in a closed loop, and of the
//!   bare proxy for a million answers of the same sizes over as many connections upstream: one.
//! - `low`: what either adds to the median latency at 1,000 questions a second on 50 connections; the bare proxy to a durable echo's,
//!   because a sale is answered when its record is durable.
//! - `cache`: sales a second on 9,000 connections from a cache, to those from its server, in a closed loop.
//! - `idle`: memory of a relay's process, and of a cache's, for a terminal that is logged in and silent, between 2,000 and 19,000
//!   of them, and how long it takes until each has its pong.
//! - `again`: how long it takes until 9,000 terminals are logged in again from when the server lets their relay in again, which
//!   had been cut off.

mod bare;
mod crowd;
mod site;

use benches::client::{self, ECHO, Measured};
use benches::floor::Floor;
use benches::network::become_pinwheel;
use benches::process::{CLIENT_CORE, Child, Result, pin};
use crowd::Crowd;
use engine::registry::State;
use site::{Kind, Site};
use std::path::Path;
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    // The servers are this program again.
    become_pinwheel();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "serve-durable", folder] => return benches::echo::serve_durable(folder),
        [_, "serve-carried-echo"] => return bare::serve_echo(None),
        [_, "serve-carried-echo", folder] => return bare::serve_echo(Some(folder)),
        [_, "serve-proxy", server] => return bare::serve_proxy(server.parse()?),
        _ => {}
    }
    let options = Options::parse(&arguments)?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = |row: &str| -> Result<std::path::PathBuf> {
        let place = folder.path().join(row);
        std::fs::create_dir(&place)?;
        Ok(place)
    };
    for row in &options.rows {
        match row.as_str() {
            "cpu" => cpu(&place(row)?, &options)?,
            "low" => low(&place(row)?, &options)?,
            "idle" => {
                idle(&place("idle-relay")?, Kind::Relay)?;
                idle(&place("idle-cache")?, Kind::Cache)?;
            }
            "cache" => cache(&place(row)?, &options)?,
            "again" => again(&place(row)?)?,
            other => return Err(format!("there is no row {other}").into()),
        }
    }
    Ok(())
}

struct Options {
    rows: Vec<String>,
    rounds: u32,
    time: Duration,
    connections: Vec<usize>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            rows: Vec::new(),
            rounds: ROUNDS,
            time: Duration::from_secs(2),
            connections: vec![1_000, 9_000],
        };
        let mut rows = "cpu,low,cache,idle,again".to_owned();
        let mut words = arguments.iter().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--rows" => rows = value()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.time = Duration::from_secs_f64(value()?.parse()?),
                "--connections" => options.connections = vec![value()?.parse()?],
                // Cargo says so of itself.
                "--bench" => {}
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        options.rows = rows.split(',').map(str::to_owned).collect();
        Ok(options)
    }
}

/// A bare proxy and the echo behind it.
struct Bare {
    proxy: Child,
    _echo: Child,
}

impl Bare {
    /// With an echo that answers at once, or when a record in a folder is durable.
    fn start(folder: Option<&Path>) -> Result<Self> {
        let folder = folder.map(|folder| folder.display().to_string());
        let words: Vec<&str> = ["serve-carried-echo"].into_iter().chain(folder.as_deref()).collect();
        let echo = Child::this("carried echo", &words)?;
        let proxy = Child::this("proxy", &["serve-proxy", &echo.address.to_string()])?;
        Ok(Self { proxy, _echo: echo })
    }
}

fn cpu(folder: &Path, options: &Options) -> Result<()> {
    let most = options.connections.iter().copied().max().unwrap_or(0);
    let stock = (f64::from(options.rounds) * options.time.as_secs_f64() * 3e5) as u32
        * options.connections.len() as u32;
    println!("-- minting {stock} PINs for {most} terminals to buy through a relay …");
    let site = Site::start(folder, Kind::Relay, most, stock)?;
    site.server.pin();
    site.manager.pin();
    let bare = Bare::start(None)?;
    pin(std::process::id(), &CLIENT_CORE.to_string());
    for &connections in &options.connections {
        let (mut relays, mut proxies) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            proxies.push(client::run(&bare.proxy, ECHO, connections, 1, options.time)?);
            relays.push(site.sell(&site.manager, connections, None, options.time)?);
        }
        for (name, measured) in [("bare proxy", &proxies), ("relay", &relays)] {
            let figure = |figure: fn(&Measured) -> f64| median(measured.iter().map(figure).collect());
            println!(
                "{name:<12}{:>9.0} a second, p50 {:.0} µs, {:.2} processor seconds a million  {}",
                figure(Measured::rate),
                figure(|measured| measured.at_us(0.5)),
                figure(Measured::server_cpu_s_per_million),
                measured.iter().map(Measured::remark).find(|remark| !remark.is_empty()).unwrap_or_default(),
            );
        }
        let per_million = Measured::server_cpu_s_per_million;
        let ratios =
            relays.iter().zip(&proxies).map(|(relay, proxy)| per_million(relay) / per_million(proxy));
        let name = format!("cpu: relay to bare proxy, {connections} connections");
        Floor::at_most(CPU_MAX, "times").print(&name, median(ratios.collect()));
    }
    Ok(())
}

fn low(folder: &Path, options: &Options) -> Result<()> {
    let stock = options.rounds * 2 * (options.time.as_secs_f64() * f64::from(PACE)) as u32 + 10_000;
    let site = Site::start(folder, Kind::Relay, PACED_CONNECTIONS, stock)?;
    site.server.pin();
    site.manager.pin();
    let places = ["durable", "carried"].map(|name| folder.join(name));
    places.iter().try_for_each(std::fs::create_dir)?;
    let echo = Child::this("durable echo", &["serve-durable", &places[0].display().to_string()])?;
    let bare = Bare::start(Some(&places[1]))?;
    pin(std::process::id(), &CLIENT_CORE.to_string());
    let mut p50s: [Vec<f64>; 4] = Default::default();
    for _ in 0..options.rounds {
        let paced = |child| benches::paced::run(child, ECHO, PACED_CONNECTIONS, PACE, options.time);
        let sold = |child| site.sell(child, PACED_CONNECTIONS, Some(PACE.into()), options.time);
        let measured = [paced(&echo)?, paced(&bare.proxy)?, sold(&site.server)?, sold(&site.manager)?];
        p50s.iter_mut().zip(&measured).for_each(|(p50s, measured)| p50s.push(measured.at_us(0.5)));
    }
    let added = |through: usize, direct: usize| {
        median(p50s[through].iter().zip(&p50s[direct]).map(|(through, direct)| through - direct).collect())
    };
    let [echo, proxy, server, relay] = [0, 1, 2, 3].map(|at| median(p50s[at].clone()));
    println!(
        "p50: durable echo {echo:.0}, through the bare proxy {proxy:.0}; server {server:.0}, through the relay {relay:.0} µs"
    );
    Floor::at_most(LOW_MAX, "times")
        .print("low: what the relay adds, to the bare proxy's", added(3, 2) / added(1, 0));
    Ok(())
}

fn idle(folder: &Path, kind: Kind) -> Result<()> {
    let (name, floor) = match kind {
        Kind::Relay => ("relay", RELAY_BYTES_MAX),
        Kind::Cache => ("cache", CACHE_BYTES_MAX),
    };
    println!("-- {ALL} terminals log in to a {name}, and stay");
    let site = Site::start(folder, kind, ALL, 1000)?;
    let mut crowd = Crowd::new(site.keys()?)?;
    let grow = |crowd: &mut Crowd, count| -> Result<(f64, f64)> {
        crowd.grow(site.manager.address, count)?;
        Ok((resident_bytes(&site.manager)?, resident_bytes(&site.server)?))
    };
    let (few, server_few) = grow(&mut crowd, FEW)?;
    let (all, server_all) = grow(&mut crowd, ALL)?;
    let took = crowd.ping()?.as_secs_f64();
    let more = (ALL - FEW) as f64;
    Floor::at_least(ALL as f64, "terminals")
        .print("idle: logged in to one manager", crowd.logged_in() as f64);
    Floor::at_most(PING_S_MAX, "s").print("idle: until each has its pong", took);
    Floor::at_most(floor, "bytes")
        .print(&format!("idle: memory of a terminal in the {name}"), (all - few) / more);
    if kind == Kind::Relay {
        println!(
            "{:<52}{:>14.0} bytes",
            "  and in the server, without a sale",
            (server_all - server_few) / more
        );
    }
    Ok(())
}

fn cache(folder: &Path, options: &Options) -> Result<()> {
    let connections = options.connections.iter().copied().max().unwrap_or(0);
    let stock = (2.0 * f64::from(options.rounds) * options.time.as_secs_f64() * 3e5) as u32;
    println!(
        "-- minting {stock} PINs for {connections} terminals to buy from a cache, and from its server …"
    );
    let site = Site::start(folder, Kind::Cache, connections, stock)?;
    site.server.pin();
    site.manager.pin();
    pin(std::process::id(), &CLIENT_CORE.to_string());
    let (mut cached, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        direct.push(site.sell(&site.server, connections, None, options.time)?);
        cached.push(site.sell(&site.manager, connections, None, options.time)?);
    }
    for (name, measured) in [("server", &direct), ("cache", &cached)] {
        let rate = median(measured.iter().map(Measured::rate).collect());
        let remark = measured.iter().map(Measured::remark).find(|remark| !remark.is_empty());
        println!("{name:<12}{rate:>9.0} a second  {}", remark.unwrap_or_default());
    }
    let ratios = cached.iter().zip(&direct).map(|(cached, direct)| cached.rate() / direct.rate());
    let name = format!("cache: rate to a server's, {connections} connections");
    Floor::at_least(CACHE_RATE_MIN, "times").print(&name, median(ratios.collect()));
    Ok(())
}

fn again(folder: &Path) -> Result<()> {
    println!("-- {AGAIN} terminals are logged in through a relay that is cut off and let in again");
    let site = Site::start(folder, Kind::Relay, AGAIN, 1000)?;
    let mut crowd = Crowd::new(site.keys()?)?;
    crowd.grow(site.manager.address, AGAIN)?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        site.let_in(State::Suspended)?;
        crowd.until(|crowd| crowd.logged_in() == 0, PATIENCE)?;
        let begun = Instant::now();
        site.let_in(State::Active)?;
        let done = crowd.until(|crowd| crowd.logged_in() == AGAIN, PATIENCE)?;
        times.push(done.duration_since(begun).as_secs_f64());
        if site.sessions()? != AGAIN as u64 {
            return Err("the server knows of other sessions".into());
        }
    }
    println!("  by round: {times:.2?} s");
    Floor::at_most(AGAIN_S_MAX, "s").print("again: until 9,000 are logged in", median(times));
    Ok(())
}

/// What a process has in memory when it has come to rest, and its sessions too.
fn resident_bytes(child: &Child) -> Result<f64> {
    std::thread::sleep(2 * Duration::from_millis(engine::limits::REST_MS));
    child.await_rest()?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

const ROUNDS: u32 = 3;
const CPU_MAX: f64 = 1.5;
const LOW_MAX: f64 = 1.5;
const PACED_CONNECTIONS: usize = 50;
/// Questions a second.
const PACE: u32 = 1000;
const ALL: usize = 19_000;
const FEW: usize = 2_000;
const PING_S_MAX: f64 = 10.0;
const RELAY_BYTES_MAX: f64 = 1536.0;
const CACHE_BYTES_MAX: f64 = 2560.0;
const CACHE_RATE_MIN: f64 = 0.95;
const AGAIN: usize = 9_000;
const AGAIN_S_MAX: f64 = 5.0;
const PATIENCE: Duration = Duration::from_secs(60);
