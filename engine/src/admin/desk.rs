//! One request to one reply.

use super::protocol::{KeyRow, MintOrder, OrderChange, OrderView, Reply, Request, TerminalRow, VarietyRow};
use crate::hub::{Command, Done, NewKey, Terminals};
use crate::ids::{KeyEpoch, OrderId, TerminalId};
use crate::intake::{Alphabet, Profile, Progress, Recipe};
use crate::journal::record::VendName;
use crate::network::{JoinToken, NotDone, Office};
use crate::stock::Expiry;
use crossbeam::channel::Sender;
use std::io::{self, Read};

/// What an office does not know of the process it is in.
#[derive(Clone)]
pub struct Site {
    /// Where to say that the process should end, if it runs on.
    pub stop: Option<Sender<()>>,
}

/// Does what was asked. `input` holds the file of an intake; `say` hears how far it is, and what comes in parts; it fails when
/// nobody listens any more.
pub fn answer(
    request: Request,
    office: &Office,
    site: &Site,
    input: &mut dyn Read,
    say: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Reply {
    try_answer(request, office, site, input, say)
        .unwrap_or_else(|error| Reply::No { reason: error.to_string() })
}

fn try_answer(
    request: Request,
    office: &Office,
    site: &Site,
    input: &mut dyn Read,
    say: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Result<Reply, NotDone> {
    let mut progress = |progress: Progress| {
        let step = format!("{:?}", progress.step).to_lowercase();
        // Who no longer listens does not stop what was begun.
        let _ = say(Reply::Progress { step, done: progress.done, total: progress.total });
    };
    Ok(match request {
        Request::Status => Reply::Status(Box::new(office.status()?)),
        Request::Audit => {
            let report = office.audit()?;
            let text = report.to_string();
            let value = serde_json::to_value(&report).unwrap_or_default();
            Reply::Audit { balanced: report.balanced, report: value, text }
        }
        Request::Stop => match &site.stop {
            Some(stop) => {
                // It may be ending already.
                let _ = stop.try_send(());
                Reply::Stopping
            }
            None => Reply::No { reason: "nothing runs here".to_owned() },
        },
        Request::ListVarieties => {
            let registry = office.registry()?;
            Reply::Varieties { varieties: registry.varieties().map(VarietyRow::of).collect() }
        }
        Request::AddVariety(row) => added(office.command(Command::AddVariety(row.to_variety()))?),
        Request::AddNode { name, relay } => {
            let command = if relay { Command::AddManager { name } } else { Command::AddNode { name } };
            match office.command(command)? {
                Done::Node { seller, node_key } => {
                    Reply::Node { seller: seller.0, token: JoinToken { seller, node_key }.to_string() }
                }
                other => unreachable!("a new node is answered by it, not {other:?}"),
            }
        }
        Request::SetManager { name, state } => {
            office.command(Command::SetManager { name, state })?;
            Reply::Changed { added: 0, changed: 1 }
        }
        Request::Drain { node, on } => {
            office.drain(&node, on)?;
            Reply::Changed { added: 0, changed: 1 }
        }
        Request::DrainHub { on } => {
            office.command(Command::DrainHub { on })?;
            Reply::Changed { added: 0, changed: 1 }
        }
        Request::LookAtLost { node } => Reply::Lost(office.look_at_lost(&node)?),
        Request::Lose { node } => Reply::Lost(office.lose(&node)?),
        Request::ListDoubts { node } => Reply::Doubts { doubts: office.doubts(node.as_deref())? },
        Request::WriteOff { node, which, note } => Reply::Lost(office.write_off(&node, &which, &note)?),
        Request::CloseNode { node } => {
            office.close_node(&node)?;
            Reply::Changed { added: 0, changed: 1 }
        }
        Request::SequenceAnswer { seller, terminal, key_epoch, sequence } => {
            let (terminal, key_epoch) = (TerminalId(terminal), KeyEpoch(key_epoch));
            let vend = VendName { terminal, key_epoch, sequence };
            Reply::SequenceAnswer { answer: office.answer(office.node_called(&seller)?, vend)? }
        }
        Request::ListMoves { most } => Reply::Moves { moves: office.moves(most)? },
        Request::Explain { number } => Reply::Moves { moves: vec![office.explain(number)?] },
        Request::SetTerminal { terminal, state } => {
            office.command(Command::SetTerminal { terminal: TerminalId(terminal), state })?;
            Reply::Changed { added: 0, changed: 1 }
        }
        Request::ListDealers => Reply::Dealers { dealers: office.registry()?.dealers().cloned().collect() },
        Request::SetDealer { dealer, state } => {
            office.command(Command::SetDealer { dealer, state })?;
            Reply::Changed { added: 0, changed: 1 }
        }
        Request::Import { varieties, dealers } => {
            let varieties = varieties.iter().map(VarietyRow::to_variety).collect();
            match office.command(Command::Import { varieties, dealers })? {
                Done::Imported { added, changed } => Reply::Changed { added, changed },
                other => unreachable!("an import is answered by counts, not {other:?}"),
            }
        }
        Request::AddDealer { name } => added(office.command(Command::AddDealer { name })?),
        Request::ListTerminals => Reply::Terminals { terminals: TerminalRow::all(&*office.registry()?) },
        Request::AddTerminals { count, ids, dealer } => {
            let terminals = match ids.is_empty() {
                true => Terminals::Next(count),
                false => Terminals::Numbered(ids.into_iter().map(TerminalId).collect()),
            };
            keys(office, office.command(Command::AddTerminals { dealer, terminals })?)?
        }
        Request::Rekey { terminal } => {
            keys(office, office.command(Command::Rekey { terminal: TerminalId(terminal) })?)?
        }
        Request::Intake { variety, profile, profile_toml, expiry, bytes } => {
            let profile = match profile_toml {
                Some(text) => Profile::from_toml(&text).map_err(|error| error.to_string()),
                None => Profile::built_in(&profile).ok_or_else(|| no_such_profile(&profile)),
            };
            match profile {
                Ok(profile) => {
                    let input = input.take(bytes);
                    let expiry = Expiry(expiry);
                    Reply::Delivered(office.intake(
                        &variety,
                        &profile,
                        expiry,
                        input,
                        bytes,
                        &mut progress,
                    )?)
                }
                Err(reason) => Reply::No { reason },
            }
        }
        Request::Mint(order) => {
            let MintOrder { variety, count, length, letters, check, expiry } = order;
            let recipe = Recipe {
                count,
                length,
                alphabet: if letters { Alphabet::Letters } else { Alphabet::Digits },
                check,
                serial_prefix: "P".to_owned(),
                serial_first: 1,
                serial_digits: 8,
            };
            Reply::Delivered(office.mint(&variety, &recipe, Expiry(expiry), &mut progress)?)
        }
        Request::ListOrders => {
            let orders = office.orders()?.into_iter().map(|(order, variety)| OrderView::of(order, variety));
            Reply::Orders { orders: orders.collect() }
        }
        Request::ChangeOrder { number, change } => {
            let number = OrderId(number);
            let done = office.command(match change {
                OrderChange::Resend => Command::ResendOrder(number),
                OrderChange::Cancel => Command::CancelOrder(number),
                OrderChange::Done => Command::FinishOrder(number),
            })?;
            let Done::Order(order) = done else { unreachable!("a change of an order is answered by it") };
            Reply::Order { number: order.number.0, state: order.state }
        }
        Request::Sequences { seller, name, since, terminals } => {
            let named = name.map(|name| office.node_called(&name)).transpose()?;
            let seller = named.map(|node| node.0).or(seller);
            let mut count = 0;
            let (seller, end) = office.sequences(seller, since, &terminals, &mut |rows| {
                count += rows.len() as u64;
                say(Reply::Sequences { rows }).is_ok()
            })?;
            Reply::SequencesEnd { seller: seller.0, rows: count, end, beyond: office.beyond(seller)? }
        }
    })
}

fn added(done: Done) -> Reply {
    match done {
        Done::Variety(id) => Reply::Added { id: u64::from(id.0) },
        Done::Dealer(id) => Reply::Added { id: u64::from(id) },
        other => unreachable!("an addition is answered by its number, not {other:?}"),
    }
}

fn keys(office: &Office, done: Done) -> Result<Reply, NotDone> {
    let Done::Keys(keys) = done else { unreachable!("new keys are answered by them") };
    let registry = office.registry()?;
    let row = |NewKey { terminal, key_epoch, key }| KeyRow {
        terminal: terminal.0,
        dealer: registry.terminal(terminal).map_or(0, |terminal| terminal.dealer),
        key_epoch: key_epoch.0,
        key,
    };
    Ok(Reply::Keys { keys: keys.into_iter().map(row).collect() })
}

fn no_such_profile(name: &str) -> String {
    let known: Vec<_> = Profile::built_in_names().collect();
    format!("there is no profile {name:?}: use {} or the path of a .toml file", known.join(", "))
}
