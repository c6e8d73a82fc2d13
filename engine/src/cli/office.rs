//! Commands that ask the running network, or, when nothing runs, the stores themselves.

use super::screen::{Bar, date, remark, say, say_json, thousands};
use super::status::status_text;
use super::{AlphabetArg, Exit, IntakeArgs, MintArgs, clock, code, random};
use crate::admin::{AskError, MintOrder, Reply, Request, Site, VarietyRow, answer, ask};
use crate::disk::lock::LockError;
use crate::network::{Delivered, Failure, Network, Options};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who asks: for which data directory, and how the answer is to look.
pub(super) struct Caller {
    pub(super) data: PathBuf,
    /// Whether the directory was named on the command line.
    pub(super) named: bool,
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
        for _ in 0..LOCK_TRIES {
            // It is read only if somebody answers.
            let doubled = input.map(File::try_clone).transpose().map_err(Exit::no)?;
            let doubled = doubled.map(|file| Box::new(file) as Box<dyn Read + Send>);
            match ask(&self.data, request, doubled, &mut *hear) {
                Ok(reply) => return Ok(reply),
                Err(error @ AskError::Lost(_)) => return Err(Exit::unreachable(error)),
                Err(AskError::NotRunning) => {}
            }
            let Some(options) = Options::at_rest(&self.data, clock, random, fatal) else {
                return Err(Exit::unreachable(format!(
                    "there is no network in {}: begin with `pinwheel up`",
                    self.data.display()
                )));
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
            let site = Site { stop: None };
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
