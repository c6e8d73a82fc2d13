//! Commands that ask the running network, or, when nothing runs, the stores themselves.

use super::screen::{Bar, date, remark, say, say_json, table, thousands};
use super::{
    AlphabetArg, Exit, IntakeArgs, MintArgs, TerminalCommand, VarietyCommand, clock, code, files, random,
};
use crate::admin::{AskError, KeyRow, MintOrder, Reply, Request, Site, VarietyRow, answer, ask};
use crate::disk::lock::LockError;
use crate::journal::SEGMENT_BYTES;
use crate::network::{Delivered, Failure, Network, Options, Status};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who asks: for which data directory, and how the answer is to look.
pub(super) struct Caller {
    pub(super) data: PathBuf,
    pub(super) json: bool,
}

impl Caller {
    pub(super) fn status(&self) -> Result<(), Exit> {
        match self.request(&Request::Status, None)? {
            Reply::Status(status) if self.json => say_json(&status),
            Reply::Status(status) => say(&status_text(&status)),
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    pub(super) fn audit(&self) -> Result<(), Exit> {
        match self.request(&Request::Audit, None)? {
            Reply::Audit { balanced, report, text } => {
                if self.json {
                    say_json(&report);
                } else {
                    say(&text);
                }
                if balanced { Ok(()) } else { Err(Exit::said()) }
            }
            other => Err(unexpected(other)),
        }
    }

    pub(super) fn stop(&self) -> Result<(), Exit> {
        let pid = match ask(&self.data, &Request::Status, None, drop) {
            Ok(Reply::Status(status)) => Some(status.pid),
            Ok(_) => None,
            Err(error) => return Err(Exit::unreachable(error)),
        };
        ask(&self.data, &Request::Stop, None, drop).map_err(Exit::unreachable)?;
        // It is gone when its lock is.
        for _ in 0..STOP_TRIES {
            std::thread::sleep(TRY_AGAIN);
            let is_held = File::open(self.data.join("lock")).is_ok_and(|lock| lock.try_lock().is_err());
            if !is_held {
                match (self.json, pid) {
                    (true, _) => say_json(&serde_json::json!({ "stopped": true, "pid": pid })),
                    (false, _) => say("stopped\n"),
                }
                return Ok(());
            }
        }
        Err(Exit::no("it is still stopping"))
    }

    pub(super) fn intake(&self, args: IntakeArgs) -> Result<(), Exit> {
        let IntakeArgs { file: path, variety, profile, expiry } = args;
        let unreadable = |error| Exit::no(format!("cannot read {}: {error}", path.display()));
        let file = File::open(&path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        let is_path = Path::new(&profile).extension().is_some_and(|extension| extension == "toml");
        let profile_toml = match is_path {
            true => Some(
                std::fs::read_to_string(&profile)
                    .map_err(|error| Exit::no(format!("cannot read {profile}: {error}")))?,
            ),
            false => None,
        };
        let expiry = expiry.map_or(0, |expiry| expiry.0);
        let request = Request::Intake { variety, profile, profile_toml, expiry, bytes };
        let reply = self.request(&request, Some(&file))?;
        self.delivered(reply)
    }

    pub(super) fn mint(&self, args: MintArgs) -> Result<(), Exit> {
        let MintArgs { variety, count, length, alphabet, luhn, expiry } = args;
        let letters = matches!(alphabet, AlphabetArg::Letters);
        let expiry = expiry.map_or(0, |expiry| expiry.0);
        let order = MintOrder { variety, count, length, letters, check: luhn, expiry };
        let reply = self.request(&Request::Mint(order), None)?;
        self.delivered(reply)
    }

    fn delivered(&self, reply: Reply) -> Result<(), Exit> {
        match reply {
            Reply::Delivered(delivered) if self.json => say_json(&delivered),
            Reply::Delivered(Delivered { batch, variety, pins, blocks }) => {
                let blocks = if blocks == 1 { "1 block".to_owned() } else { format!("{blocks} blocks") };
                say(&format!("{} PINs of {variety} received: batch {batch}, {blocks}\n", thousands(pins)));
            }
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    pub(super) fn terminal(&self, command: TerminalCommand) -> Result<(), Exit> {
        match command {
            TerminalCommand::List => match self.request(&Request::ListTerminals, None)? {
                Reply::Terminals { terminals } if self.json => say_json(&terminals),
                Reply::Terminals { terminals } => {
                    let row = |terminal: &crate::admin::TerminalRow| {
                        let state = format!("{:?}", terminal.state).to_lowercase();
                        let crate::admin::TerminalRow { id, dealer, key_epoch, .. } = terminal;
                        vec![id.to_string(), dealer.to_string(), key_epoch.to_string(), state]
                    };
                    let rows: Vec<_> = terminals.iter().map(row).collect();
                    say(&table(&[">terminal", ">dealer", ">key epoch", "state"], &rows));
                }
                other => return Err(unexpected(other)),
            },
            TerminalCommand::Add { count, dealer, out } => {
                let request = Request::AddTerminals { count, ids: Vec::new(), dealer };
                self.new_keys(&request, out.as_deref(), "added")?;
            }
            TerminalCommand::Import { file, dealer, out } => {
                let ids = files::read_numbers(&file)?;
                if ids.is_empty() {
                    return Err(Exit::no(format!("{} names no terminal", file.display())));
                }
                let request = Request::AddTerminals { count: 0, ids, dealer };
                self.new_keys(&request, out.as_deref(), "added")?;
            }
            TerminalCommand::Rekey { id, out } => {
                let keys = self.new_keys(&Request::Rekey { terminal: id.0 }, out.as_deref(), "rekeyed")?;
                self.renew(&keys)?;
            }
        }
        Ok(())
    }

    /// Has keys made, and gives them to the one who asked, once.
    fn new_keys(&self, request: &Request, out: Option<&Path>, what: &str) -> Result<Vec<KeyRow>, Exit> {
        if let Some(path) = out.filter(|path| path.exists()) {
            return Err(Exit::no(format!("{} exists: name a new file", path.display())));
        }
        let keys = match self.request(request, None)? {
            Reply::Keys { keys } => keys,
            other => return Err(unexpected(other)),
        };
        if let Some(path) = out {
            files::write_new(path, &files::keys_csv(&keys))?;
        }
        let count = keys.len();
        let terminals = if count == 1 { "1 terminal".to_owned() } else { format!("{count} terminals") };
        match (self.json, out) {
            (true, Some(path)) => say_json(&serde_json::json!({ "terminals": count, "keys": path })),
            (true, None) => say_json(&keys),
            (false, Some(path)) => say(&format!("{terminals} {what}; keys in {}\n", path.display())),
            (false, None) => say(&files::keys_csv(&keys)),
        }
        Ok(keys)
    }

    /// Puts new keys into the data directory's file, for those terminals that stand in it.
    fn renew(&self, keys: &[KeyRow]) -> Result<(), Exit> {
        let path = files::terminals_path(&self.data);
        if !path.exists() {
            return Ok(());
        }
        let mut known = files::read_keys(&path)?;
        let mut renewed = false;
        for key in keys {
            if let Some(old) = known.iter_mut().find(|old| old.terminal == key.terminal) {
                *old = key.clone();
                renewed = true;
            }
        }
        if renewed {
            let written = files::replace(&path, &files::keys_csv(&known));
            written.map_err(|error| Exit::no(format!("cannot write {}: {error}", path.display())))?;
        }
        Ok(())
    }

    pub(super) fn add_dealer(&self, name: String) -> Result<(), Exit> {
        match self.request(&Request::AddDealer { name }, None)? {
            Reply::Added { id } if self.json => say_json(&serde_json::json!({ "id": id })),
            Reply::Added { id } => say(&format!("dealer {id} added\n")),
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    pub(super) fn variety(&self, command: VarietyCommand) -> Result<(), Exit> {
        match command {
            VarietyCommand::List => {
                let varieties = self.varieties()?;
                if self.json {
                    say_json(&varieties);
                } else {
                    let row = |v: &VarietyRow| {
                        vec![v.code.clone(), v.price(), v.product.to_string(), v.name.clone()]
                    };
                    let rows: Vec<_> = varieties.iter().map(row).collect();
                    say(&table(&["variety", ">face value", ">product", "name"], &rows));
                }
            }
            VarietyCommand::Add {
                code,
                product,
                face_value,
                currency,
                digits,
                name,
                receipt,
                minimum_life_days,
            } => {
                let row = VarietyRow {
                    id: 0,
                    code: code.clone(),
                    product,
                    face_value,
                    currency,
                    currency_digits: digits,
                    name,
                    receipt: receipt.replace("\\n", "\n"),
                    minimum_life_days,
                };
                match self.request(&Request::AddVariety(row), None)? {
                    Reply::Added { id } if self.json => {
                        say_json(&serde_json::json!({ "id": id, "code": code }));
                    }
                    Reply::Added { .. } => say(&format!("{code} added\n")),
                    other => return Err(unexpected(other)),
                }
            }
        }
        Ok(())
    }

    pub(super) fn varieties(&self) -> Result<Vec<VarietyRow>, Exit> {
        match self.request(&Request::ListVarieties, None)? {
            Reply::Varieties { varieties } => Ok(varieties),
            other => Err(unexpected(other)),
        }
    }

    /// Asks the running process, or, when nothing runs, opens the stores.
    pub(super) fn request(&self, request: &Request, input: Option<&File>) -> Result<Reply, Exit> {
        let mut bar = Bar::new(self.json);
        self.request_in_parts(request, input, &mut |progress| bar.hear(progress))
    }

    /// The same; `hear` gets what comes before the reply.
    pub(super) fn request_in_parts(
        &self,
        request: &Request,
        mut input: Option<&File>,
        hear: &mut dyn FnMut(Reply),
    ) -> Result<Reply, Exit> {
        if !self.data.join("hub").exists() {
            return Err(Exit::unreachable(format!(
                "there is no network in {}: begin with `pinwheel up`",
                self.data.display()
            )));
        }
        for _ in 0..LOCK_TRIES {
            // It is read only if somebody answers.
            let doubled = input.map(File::try_clone).transpose().map_err(Exit::no)?;
            let doubled = doubled.map(|file| Box::new(file) as Box<dyn Read + Send>);
            match ask(&self.data, request, doubled, &mut *hear) {
                Ok(reply) => return Ok(reply),
                Err(error @ AskError::Lost(_)) => return Err(Exit::unreachable(error)),
                Err(AskError::NotRunning) => {}
            }
            let options = Options {
                data: self.data.clone(),
                selling: None,
                segment_bytes: SEGMENT_BYTES,
                clock,
                random,
                fatal,
            };
            let network = match Network::start(options) {
                Ok(network) => network,
                // It is starting, or another command is at work.
                Err(Failure::Lock(LockError::Held { .. })) => {
                    std::thread::sleep(TRY_AGAIN);
                    continue;
                }
                Err(failure) => return Err(Exit::unreachable(failure)),
            };
            let site = Site { address: None, stop: None };
            let mut nothing = std::io::empty();
            let input: &mut dyn Read = match &mut input {
                Some(input) => input,
                None => &mut nothing,
            };
            let reply = answer(request.clone(), network.office(), &site, input, &mut |part| {
                hear(part);
                Ok(())
            });
            network.stop();
            return Ok(reply);
        }
        Err(Exit::unreachable(format!("{} is in use, and nothing answers there yet", self.data.display())))
    }
}

/// A thread cannot go on: nothing may be said to anyone any more.
pub(super) fn fatal(failure: &Failure) -> ! {
    tracing::error!("{failure}");
    let code = match failure {
        Failure::NotDurable(_) => code::NOT_DURABLE,
        // Whoever reads it first notices: this program, or the system in the mapping.
        lost if lost.is_lost_file() => code::LOST_FILE,
        _ => code::STOPPED,
    };
    std::process::exit(i32::from(code));
}

pub(super) fn unexpected(reply: Reply) -> Exit {
    match reply {
        Reply::No { reason } => Exit::no(reason),
        other => Exit::no(format!("the running process is of another version: it said {other:?}")),
    }
}

fn status_text(status: &Status) -> String {
    let state = match (&status.address, status.linked, status.disk_full) {
        (None, ..) => "not running".to_owned(),
        (Some(address), true, false) => format!("selling on {address}"),
        (Some(address), false, false) => format!("selling on {address}; the hub does not answer"),
        (Some(address), _, true) => format!("on {address}; the disk is full"),
    };
    let mut text = format!("\n  {state}\n\n");
    if status.address.is_some() {
        let minutes = status.uptime_s / 60;
        let uptime = format!("{} h {} min {} s", minutes / 60, minutes % 60, status.uptime_s % 60);
        let rows = [
            ("up", format!("{uptime}, process {}", status.pid)),
            ("seller", format!("{}, hub epoch {}", status.seller, status.hub_epoch)),
            ("terminals", format!("{} registered, {} logged in", status.terminals, status.sessions)),
            (
                "answers",
                format!(
                    "{} sold, {} declined, {} later",
                    thousands(status.answered_sold),
                    thousands(status.answered_declined),
                    thousands(status.answered_later)
                ),
            ),
            (
                "journal",
                format!(
                    "durable to {}, {} of it not yet at the hub",
                    thousands(status.journal_durable),
                    thousands(status.journal_durable - status.journal_acknowledged)
                ),
            ),
        ];
        for (name, value) in rows {
            text.push_str(&format!("  {name:<10} {value}\n"));
        }
        text.push('\n');
    }
    let rows: Vec<_> = status
        .varieties
        .iter()
        .map(|v| {
            let numbers = [v.received, v.hub, v.in_transfer, v.at_seller, v.sellable, v.sold, v.withdrawn]
                .map(thousands);
            [v.code.clone()].into_iter().chain(numbers).collect()
        })
        .collect();
    let headings =
        ["variety", ">received", ">hub", ">transfer", ">at seller", ">sellable", ">sold", ">withdrawn"];
    text.push_str(&table(&headings, &rows));
    text.push('\n');
    text
}

/// A day for people; nothing for none.
pub(super) fn valid_to(expiry: u32) -> Option<String> {
    (expiry != 0).then(|| date(expiry))
}

/// For warnings that do not change what a command does.
pub(super) fn note(text: &str) {
    remark(&format!("{text}\n"));
}

const TRY_AGAIN: Duration = Duration::from_millis(100);
const LOCK_TRIES: usize = 100;
const STOP_TRIES: usize = 200;
