//! The command line. With `main`, the only place that reads clocks and ends the process.
//!
//! Exit codes: [`code`].

mod buy;
mod clock;
mod config;
mod files;
mod hcm;
mod lost;
mod moves;
mod nodes;
mod office;
mod orders;
mod registry;
mod running;
mod sample;
mod screen;
mod sequences;
mod simulate;
mod status;
mod up;

pub use clock::{clock, random};
pub use config::Configuration;

use crate::ids::TerminalId;
use crate::limits::{SEGMENT_MIB_MAX, WORKERS_MAX};
use crate::stock::Expiry;
use clap::{Args, Parser, Subcommand};
use screen::complain;
use std::error::Error;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

/// What a process says with its exit code.
pub mod code {
    /// Done.
    pub const OK: u8 = 0;
    /// The answer is no: declined, refused, not balanced.
    pub const NO: u8 = 1;
    /// The command line is not understood.
    pub const USAGE: u8 = 2;
    /// Nothing answers, or the network cannot start.
    pub const UNREACHABLE: u8 = 3;
    /// The journal could not be made durable: the process stopped at once.
    pub const NOT_DURABLE: u8 = 70;
    /// Something else made it impossible to go on.
    pub const STOPPED: u8 = 71;
    /// A mapped file was lost or damaged under the process.
    pub const LOST_FILE: u8 = crate::disk::mapped::LOST_MAPPING_EXIT_CODE as u8;
    /// A mistake in this program.
    pub const BUG: u8 = 101;
}

/// Sells prepaid PINs, each exactly once.
#[derive(Parser)]
#[command(name = "pinwheel", version, after_help = EXIT_CODES)]
struct Cli {
    /// The data directory [default: ./pinwheel-data, or what the configuration names].
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Say it as JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole network in this process, on loopback: a hub, servers, and two host connection managers, a relay and a cache.
    Up(UpArgs),
    /// Run a hub, or have it go offline.
    Hub(HubArgs),
    /// Run a server.
    Server(NodeArgs),
    /// Run a host connection manager.
    Hcm(NodeArgs),
    /// The nodes below the hub.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Take in a supplier's file of PINs.
    Intake(IntakeArgs),
    /// Issue PINs of our own.
    Mint(MintArgs),
    /// Terminals and their keys.
    #[command(subcommand)]
    Terminal(TerminalCommand),
    /// Dealers, whom terminals belong to.
    #[command(subcommand)]
    Dealer(DealerCommand),
    /// Have a node go offline: it sells no more, gives all it has back, and reports the rest of its journal. May be undone.
    Drain {
        /// Its name or number.
        node: String,
        #[command(flatten)]
        args: DrainArgs,
    },
    /// The latest moves of stock, and why each was made.
    Moves {
        /// How many at most.
        #[arg(long, value_name = "N", default_value_t = 20)]
        count: usize,
    },
    /// Why a move of stock was made.
    Explain {
        /// Its number, as `pinwheel moves` shows it.
        number: u64,
    },
    /// What is sold.
    #[command(subcommand)]
    Variety(VarietyCommand),
    /// Buy as a terminal does: log in, buy, print the receipt, confirm.
    Buy(BuyArgs),
    /// Orders to suppliers.
    #[command(subcommand)]
    Order(OrderCommand),
    /// How things stand.
    Status,
    /// Check that every PIN ever received is in exactly one place.
    Audit,
    /// What the journal says of sequences, in its order.
    Sequences(SequencesArgs),
    /// Try something out in virtual time, without a network.
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// End the running network in good order.
    Stop,
}

#[derive(Subcommand)]
enum SimulateCommand {
    /// Run the hub's allocation policy over a demand trace.
    Policy(SimulatePolicyArgs),
}

#[derive(Args)]
struct SimulatePolicyArgs {
    /// The demand: CSV with the columns hour, node, variety, vends.
    #[arg(long, value_name = "FILE")]
    demand: PathBuf,
    /// Levels, delays and stock to begin with: TOML [default: automatic levels, 50,000 PINs at the hub].
    #[arg(long, value_name = "FILE")]
    nodes: Option<PathBuf>,
    /// Say every move and order too, with its reason.
    #[arg(long)]
    moves: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct NodeArgs {
    /// The configuration: TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a configuration to begin with.
    #[arg(long)]
    example: bool,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
struct HubArgs {
    #[command(subcommand)]
    command: Option<HubCommand>,
    #[command(flatten)]
    run: Option<NodeArgs>,
}

#[derive(Subcommand)]
enum HubCommand {
    /// Have the hub go offline: it gives all it has to the servers first. May be undone.
    Drain(DrainArgs),
}

#[derive(Args)]
struct DrainArgs {
    /// It stays after all.
    #[arg(long)]
    undo: bool,
    /// Do not wait until it is done.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Add a node; prints its join token, which is shown once.
    Add {
        /// What operators will call it.
        name: String,
        /// The server, by name or number, that it will have its stock from, for good; without it, the hub.
        #[arg(long, value_name = "SERVER")]
        below: Option<String>,
        /// Write the token into this new file instead.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// It is a host connection manager that relays: it has no stock.
        #[arg(long, conflicts_with = "below")]
        relay: bool,
    },
    /// Let servers have a relaying host connection manager or not: active, suspended or closed.
    State {
        /// Its name.
        name: String,
        /// Its state from now on; closed is for good.
        #[arg(value_enum)]
        state: StateArg,
    },
    /// Declare a node lost, for good: what it held is in doubt until its late journal or an operator settles it.
    Lost {
        /// Its name or number.
        node: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// What lost nodes held, by serial range, and what became of it.
    Doubts {
        /// The name or number of one of them.
        node: Option<String>,
        /// Only what is in doubt still.
        #[arg(long)]
        open: bool,
    },
    /// Settle what is in doubt at a lost node without its journal.
    Settle(SettleArgs),
    /// Close the record of a node that has been drained and stopped: the hub answers for its sequences from then on.
    Close {
        /// Its name or number.
        node: String,
    },
}

#[derive(Args)]
struct SettleArgs {
    /// The lost node's name or number.
    node: String,
    /// What the PINs are to be: only `withdrawn` needs no journal.
    #[arg(long = "as", value_name = "STATE", value_enum)]
    becomes: SettleArg,
    /// Of this variety only.
    #[arg(long, value_name = "CODE")]
    variety: Option<String>,
    /// With serials from A to B only, both included.
    #[arg(long, value_name = "A..B", value_parser = serials)]
    serials: Option<(String, String)>,
    /// Why: kept with what is settled.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SettleArg {
    /// Never sold.
    Withdrawn,
    /// For sale again. Only the node's journal can do that.
    Returned,
}

#[derive(Args)]
struct UpArgs {
    /// Where terminals connect to the first server; the other servers, the relay and the cache have the ports that follow.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7601")]
    listen: SocketAddr,
    /// How many servers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    servers: u16,
    /// No relay and no cache.
    #[arg(long)]
    no_managers: bool,
    /// Worker threads of each server [default: the cores but one, shared].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(WORKERS_MAX)))]
    workers: Option<u16>,
    /// Let terminals talk in clear. Only on loopback.
    #[arg(long)]
    clear: bool,
    /// A server asks the hub for stock of a variety below this many PINs.
    #[arg(long, value_name = "PINS", default_value_t = 5_000)]
    low: u32,
    /// It asks for as many as bring it up to this many.
    #[arg(long, value_name = "PINS", default_value_t = 20_000)]
    target: u32,
    /// Do not put sample varieties, terminals and stock into a new data directory.
    #[arg(long)]
    empty: bool,
    /// Size of a journal segment, when the journal is begun.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=i64::from(SEGMENT_MIB_MAX)))]
    segment_mib: u16,
}

#[derive(Args)]
struct SequencesArgs {
    /// Of which seller, by name or number; may be left out where there is only one.
    #[arg(long, value_name = "NODE")]
    seller: Option<String>,
    /// The answer to this sequence of one terminal, of a seller that does not answer itself any more.
    #[arg(long, value_name = "N", requires_all = ["seller", "terminal"])]
    sequence: Option<u64>,
    /// The key epoch of that sequence.
    #[arg(long, value_name = "N", default_value_t = 1)]
    key_epoch: u32,
    /// From this journal position on: 0, or what an earlier call named at its end.
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    since: u64,
    /// Of this terminal only; may be given more than once.
    #[arg(long, value_name = "ID", value_parser = terminal_id)]
    terminal: Vec<TerminalId>,
}

#[derive(Args)]
struct IntakeArgs {
    /// The file.
    file: PathBuf,
    /// What the PINs are.
    #[arg(long, value_name = "CODE")]
    variety: String,
    /// How the file is laid out: serial-pin-expiry, pipe-detail, or the path of a profile (.toml).
    #[arg(long, value_name = "NAME")]
    profile: String,
    /// Last day of validity, where the file has none.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = expiry)]
    expiry: Option<Expiry>,
}

#[derive(Args)]
struct MintArgs {
    /// What the PINs are.
    #[arg(long, value_name = "CODE")]
    variety: String,
    /// How many.
    #[arg(long, value_name = "N")]
    count: u32,
    /// Characters of a PIN.
    #[arg(long, value_name = "N", default_value_t = 16)]
    length: u8,
    /// What PINs are drawn from.
    #[arg(long, value_enum, default_value_t = AlphabetArg::Digits)]
    alphabet: AlphabetArg,
    /// Make the last character a Luhn check character.
    #[arg(long)]
    luhn: bool,
    /// Last day of validity.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = expiry)]
    expiry: Option<Expiry>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum AlphabetArg {
    /// 0 to 9.
    Digits,
    /// Digits and capital letters that do not look alike.
    Letters,
}

#[derive(Subcommand)]
enum TerminalCommand {
    /// Add terminals, each with a new key.
    Add {
        /// How many.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Their dealer.
        #[arg(long, default_value_t = 1)]
        dealer: u32,
        /// Write the keys to this new file, readable by its owner alone, and not to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Add terminals whose numbers stand in the column `terminal` of a CSV file.
    Import {
        /// The file.
        file: PathBuf,
        /// Their dealer.
        #[arg(long, default_value_t = 1)]
        dealer: u32,
        /// Write the keys to this new file, readable by its owner alone, and not to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// All terminals, without their keys.
    List,
    /// Let a terminal sell, or not. Every node knows within a second.
    State {
        /// The terminal.
        #[arg(value_parser = terminal_id)]
        id: TerminalId,
        /// Its state from now on.
        state: StateArg,
    },
    /// Give a terminal a new key; the old one is worth nothing from then on.
    Rekey {
        /// The terminal.
        #[arg(value_parser = terminal_id)]
        id: TerminalId,
        /// Write the key to this new file, readable by its owner alone, and not to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum StateArg {
    /// May sell.
    Active,
    /// May not sell now.
    Suspended,
    /// May never sell again.
    Closed,
}

#[derive(Subcommand)]
enum DealerCommand {
    /// Add a dealer, active.
    Add {
        /// Its name.
        name: String,
    },
    /// All dealers.
    List,
    /// Let a dealer's terminals sell, or not. Every node knows within a second.
    State {
        /// The dealer.
        id: u32,
        /// Its state from now on.
        state: StateArg,
    },
    /// All dealers as CSV: id, name, state.
    Export,
    /// Add and change dealers from such a file, all of them or none: those with id 0 are added.
    Import {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum VarietyCommand {
    /// All varieties.
    List,
    /// All varieties as CSV.
    Export,
    /// Add and change varieties from such a file, all of them or none: those whose id or code is known are changed.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Change a variety: its price, or what terminals show and print. Every node knows within a second.
    Set {
        /// Its code.
        code: String,
        /// The denomination in minor units of the currency.
        #[arg(long, value_name = "MINOR")]
        face_value: Option<u64>,
        /// What a terminal shows: at most 40 bytes.
        #[arg(long)]
        name: Option<String>,
        /// What a terminal prints below the PIN: at most 160 bytes; \n begins a new line.
        #[arg(long)]
        receipt: Option<String>,
        /// Sell a PIN only if it stays valid at least this many days.
        #[arg(long)]
        minimum_life_days: Option<u32>,
    },
    /// Add a variety.
    Add {
        /// What operators call it, such as airtime-za-10.
        #[arg(long)]
        code: String,
        /// The product code a terminal asks for.
        #[arg(long)]
        product: u32,
        /// The denomination in minor units of the currency.
        #[arg(long, value_name = "MINOR")]
        face_value: u64,
        /// ISO 4217 code.
        #[arg(long)]
        currency: String,
        /// Digits after the currency's decimal point.
        #[arg(long, default_value_t = 2)]
        digits: u8,
        /// What a terminal shows: at most 40 bytes.
        #[arg(long)]
        name: String,
        /// What a terminal prints below the PIN: at most 160 bytes; \n begins a new line.
        #[arg(long, default_value = "")]
        receipt: String,
        /// Sell a PIN only if it stays valid at least this many days.
        #[arg(long, default_value_t = 0)]
        minimum_life_days: u32,
    },
}

#[derive(Subcommand)]
enum OrderCommand {
    /// All orders, with why they were placed.
    List,
    /// Tell the supplier of an order once more, under the same number.
    Resend {
        /// The order.
        number: u64,
    },
    /// Give an order up: what it lacks is ordered anew when stock is low.
    Cancel {
        /// The order.
        number: u64,
    },
    /// Say that no more of an order will come.
    Done {
        /// The order.
        number: u64,
    },
}

#[derive(Args)]
struct BuyArgs {
    /// What to buy, by its code [default: the first that is in stock].
    #[arg(long, value_name = "CODE", conflicts_with = "product")]
    variety: Option<String>,
    /// What to buy, by the number that terminals use.
    #[arg(long, value_name = "NUMBER", requires = "face_value")]
    product: Option<u32>,
    /// The denomination in minor units, with --product.
    #[arg(long, value_name = "MINOR", requires = "product")]
    face_value: Option<u64>,
    /// Which terminal to be [default: the first in the file that nobody else is].
    #[arg(long, value_parser = terminal_id)]
    terminal: Option<TerminalId>,
    /// How many PINs, one after the other.
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// Where a server or a manager listens [default: what `up` last wrote to the data directory].
    #[arg(long, visible_alias = "at", value_name = "ADDRESS")]
    connect: Option<SocketAddr>,
    /// The terminals' keys [default: terminals.csv in the data directory].
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// How long to wait for an answer, as a till would, in seconds.
    #[arg(long, default_value_t = 25)]
    patience: u64,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, too.
            let _ = error.print();
            return if error.use_stderr() { code::USAGE } else { code::OK }.into();
        }
    };
    let usual =
        if matches!(cli.command, Command::Up(_) | Command::Hub(_) | Command::Server(_) | Command::Hcm(_)) {
            LevelFilter::INFO
        } else {
            LevelFilter::WARN
        };
    let wanted = std::env::var("PINWHEEL_LOG").ok().and_then(|level| level.parse().ok());
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_max_level(wanted.unwrap_or(usual))
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        .init();
    let Cli { data, json, command } = cli;
    let named = data.is_some();
    let office = office::Caller { data: data.unwrap_or_else(|| DATA.into()), named, json };
    let outcome = match command {
        Command::Up(args) => up::up(&office, &args),
        Command::Hub(HubArgs { command: Some(HubCommand::Drain(args)), .. }) => office.drain_hub(&args),
        Command::Hub(HubArgs { run: Some(args), .. }) => nodes::hub(&office, &args),
        Command::Hub(_) => Err(Exit::usage("say --config FILE, --example, or drain")),
        Command::Drain { node, args } => office.drain(&node, &args),
        Command::Moves { count } => office.moves(count),
        Command::Explain { number } => office.explain(number),
        Command::Server(args) => nodes::server(&office, &args),
        Command::Hcm(args) => hcm::hcm(&office, &args),
        Command::Node(command) => office.node(command),
        Command::Buy(args) => buy::buy(&office, &args),
        Command::Intake(args) => office.intake(args),
        Command::Mint(args) => office.mint(args),
        Command::Terminal(command) => office.terminal(command),
        Command::Dealer(command) => office.dealer(command),
        Command::Variety(command) => office.variety(command),
        Command::Order(command) => orders::order(&office, &command),
        Command::Status => office.status(),
        Command::Audit => office.audit(),
        Command::Sequences(args) => sequences::sequences(&office, &args),
        Command::Simulate(SimulateCommand::Policy(args)) => simulate::policy(&office, &args),
        Command::Stop => office.stop(),
    };
    match outcome {
        Ok(()) => code::OK.into(),
        Err(Exit { code, reason }) => {
            if let Some(reason) = reason {
                complain(&reason);
            }
            code.into()
        }
    }
}

/// Why a command did not do what it was asked.
struct Exit {
    code: u8,
    /// For people, if it has not been said yet.
    reason: Option<String>,
}

impl Exit {
    fn no<'a>(reason: impl Into<Box<dyn Error + 'a>>) -> Self {
        Self { code: code::NO, reason: Some(reason.into().to_string()) }
    }

    fn usage<'a>(reason: impl Into<Box<dyn Error + 'a>>) -> Self {
        Self { code: code::USAGE, reason: Some(reason.into().to_string()) }
    }

    fn unreachable<'a>(reason: impl Into<Box<dyn Error + 'a>>) -> Self {
        Self { code: code::UNREACHABLE, reason: Some(reason.into().to_string()) }
    }

    fn said() -> Self {
        Self { code: code::NO, reason: None }
    }
}

fn expiry(text: &str) -> Result<Expiry, String> {
    let mut parts = text.splitn(3, '-').map(str::parse::<u32>);
    let date = match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(year)), Some(Ok(month)), Some(Ok(day))) => Expiry::from_date(year, month, day),
        _ => None,
    };
    date.ok_or_else(|| "write the date as in 2027-12-31".to_owned())
}

fn serials(text: &str) -> Result<(String, String), String> {
    let wrong = || "write serials as in P00000100000001..P00000100000500".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    if from.is_empty() || from.len() != to.len() || from > to {
        return Err(wrong());
    }
    Ok((from.to_owned(), to.to_owned()))
}

fn terminal_id(text: &str) -> Result<TerminalId, String> {
    text.parse().map(TerminalId).map_err(|_| "a terminal has a number".to_owned())
}

const DATA: &str = "./pinwheel-data";
const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the answer is no (declined, refused, not balanced); 2 usage; 3 nothing answers, or it
cannot start; 70 the journal could not be made durable; 71 stopped for another reason; 74 a file was lost.
Set PINWHEEL_LOG (off, error, warn, info, debug) for more or less on standard error.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_date_is_read_as_it_is_written() {
        assert_eq!(expiry("2027-12-31"), Ok(Expiry(20_271_231)));
        assert!(expiry("2027-13-01").is_err() && expiry("tomorrow").is_err());
    }
}
