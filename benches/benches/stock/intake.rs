//! A supplier's file, taken in by a hub that has seen many PINs before.

use crate::Options;
use crate::site::{Site, code};
use benches::floor::Floor;
use benches::network::mint;
use benches::process::Result;
use engine::admin::{Reply, Request, ask};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// Takes a file in, and is refused it the second time.
pub(crate) fn measure(folder: &Path, options: &Options) -> Result<()> {
    println!("-- a file of {PINS} PINs for a hub that has seen {}; issuing those …", options.known);
    let site = Site::start(folder, 1)?;
    mint(&site.hub_data(), &code(1), options.known, 0)?;
    site.hub.await_rest()?;
    crate::settle();
    let mut text = "serial,pin,expiry\n".to_owned();
    for number in 0..PINS {
        writeln!(text, "S{number:09},{:016},2099-12-31", u64::from(number) * 7_919)?;
    }
    let take_in = || -> Result<(Reply, f64, f64)> {
        let request = Request::Intake {
            variety: code(1),
            profile: "serial-pin-expiry".to_owned(),
            profile_toml: None,
            expiry: 0,
            bytes: text.len() as u64,
        };
        let input = Box::new(std::io::Cursor::new(text.clone().into_bytes()));
        let (start, busy_s) = (Instant::now(), site.hub.cpu_s());
        let reply = ask(&site.hub_data(), &request, Some(input), drop)?;
        Ok((reply, start.elapsed().as_secs_f64(), site.hub.cpu_s() - busy_s))
    };
    let (reply, seconds, busy_s) = take_in()?;
    if !matches!(reply, Reply::Delivered(_)) {
        return Err(format!("the file was not taken in: {reply:?}").into());
    }
    Floor::at_least(PINS_PER_S_MIN, "PINs/s").print("intake", f64::from(PINS) / seconds);
    println!("  {seconds:.2} s, and {busy_s:.2} s of a processor");
    let (reply, seconds, _) = take_in()?;
    if !matches!(reply, Reply::No { .. }) {
        return Err(format!("the same file again was not refused: {reply:?}").into());
    }
    println!("  the same file again: refused, at {:.0} PINs/s", f64::from(PINS) / seconds);
    site.audit()
}

const PINS: u32 = 1_000_000;
const PINS_PER_S_MIN: f64 = 150_000.0;
