//! Commands on the registry: varieties, dealers, terminals, nodes.

use super::office::{Caller, unexpected};
use super::screen::{say, say_json, table};
use super::{DealerCommand, Exit, NodeCommand, StateArg, TerminalCommand, VarietyCommand, files};
use crate::admin::{KeyRow, Reply, Request, VarietyRow};
use crate::registry::{Dealer, State};
use std::path::Path;

impl Caller {
    pub(super) fn terminal(&self, command: TerminalCommand) -> Result<(), Exit> {
        match command {
            TerminalCommand::List => match self.request(&Request::ListTerminals, None)? {
                Reply::Terminals { terminals } if self.json => say_json(&terminals),
                Reply::Terminals { terminals } => {
                    let row = |terminal: &crate::admin::TerminalRow| {
                        let crate::admin::TerminalRow { id, dealer, key_epoch, state } = terminal;
                        vec![id.to_string(), dealer.to_string(), key_epoch.to_string(), word(*state)]
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
            TerminalCommand::State { id, state } => {
                let request = Request::SetTerminal { terminal: id.0, state: state.into() };
                self.changed(&request)?;
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

    pub(super) fn dealer(&self, command: DealerCommand) -> Result<(), Exit> {
        match command {
            DealerCommand::Add { name } => match self.request(&Request::AddDealer { name }, None)? {
                Reply::Added { id } if self.json => say_json(&serde_json::json!({ "id": id })),
                Reply::Added { id } => say(&format!("dealer {id} added\n")),
                other => return Err(unexpected(other)),
            },
            DealerCommand::List => {
                let dealers = self.dealers()?;
                if self.json {
                    say_json(&dealers);
                } else {
                    let row = |dealer: &Dealer| {
                        vec![dealer.id.to_string(), dealer.name.clone(), word(dealer.state)]
                    };
                    let rows: Vec<_> = dealers.iter().map(row).collect();
                    say(&table(&[">dealer", "name", "state"], &rows));
                }
            }
            DealerCommand::State { id, state } => {
                self.changed(&Request::SetDealer { dealer: id, state: state.into() })?;
            }
            DealerCommand::Export => say(&files::csv(&self.dealers()?)),
            DealerCommand::Import { file } => {
                let dealers = files::read_csv(&file)?;
                self.changed(&Request::Import { varieties: Vec::new(), dealers })?;
            }
        }
        Ok(())
    }

    fn dealers(&self) -> Result<Vec<Dealer>, Exit> {
        match self.request(&Request::ListDealers, None)? {
            Reply::Dealers { dealers } => Ok(dealers),
            other => Err(unexpected(other)),
        }
    }

    /// Has something changed, and says so.
    fn changed(&self, request: &Request) -> Result<(), Exit> {
        match self.request(request, None)? {
            Reply::Changed { added, changed } if self.json => {
                say_json(&serde_json::json!({ "added": added, "changed": changed }));
            }
            Reply::Changed { added, changed } => say(&format!("{added} added, {changed} changed\n")),
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    pub(super) fn node(&self, command: NodeCommand) -> Result<(), Exit> {
        let (name, out, relay) = match command {
            NodeCommand::Add { name, out, relay } => (name, out, relay),
            NodeCommand::State { name, state } => {
                return self.changed(&Request::SetManager { name, state: state.into() });
            }
            NodeCommand::Lost { node, yes } => return self.node_lost(node, yes),
            NodeCommand::Doubts { node, open } => return self.node_doubts(node, open),
            NodeCommand::Settle(args) => return self.node_settle(args),
            NodeCommand::Close { node } => return self.node_close(&node),
        };
        if let Some(path) = out.as_deref().filter(|path| path.exists()) {
            return Err(Exit::no(format!("{} exists: name a new file", path.display())));
        }
        let (seller, token) = match self.request(&Request::AddNode { name, relay }, None)? {
            Reply::Node { seller, token } => (seller, token),
            other => return Err(unexpected(other)),
        };
        if let Some(path) = &out {
            files::write_new(path, &format!("{token}\n"))?;
        }
        let what = if relay { "host connection manager" } else { "seller" };
        match (self.json, out) {
            (true, Some(path)) => say_json(&serde_json::json!({ "seller": seller, "token_file": path })),
            (true, None) => say_json(&serde_json::json!({ "seller": seller, "token": token })),
            (false, Some(path)) => {
                say(&format!("{what} {seller} added; its join token is in {}\n", path.display()));
            }
            (false, None) => say(&format!("{token}\n")),
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
            VarietyCommand::Set { code, face_value, name, receipt, minimum_life_days } => {
                let known = self.varieties()?.into_iter().find(|variety| variety.code == code);
                let Some(mut row) = known else {
                    return Err(Exit::no(format!(
                        "there is no variety {code:?}: see `pinwheel variety list`"
                    )));
                };
                row.face_value = face_value.unwrap_or(row.face_value);
                row.name = name.unwrap_or(row.name);
                row.receipt = receipt.map_or(row.receipt, |receipt| receipt.replace("\\n", "\n"));
                row.minimum_life_days = minimum_life_days.unwrap_or(row.minimum_life_days);
                self.changed(&Request::Import { varieties: vec![row], dealers: Vec::new() })?;
            }
            VarietyCommand::Export => say(&files::csv(&self.varieties()?)),
            VarietyCommand::Import { file } => {
                let varieties = files::read_csv(&file)?;
                self.changed(&Request::Import { varieties, dealers: Vec::new() })?;
            }
        }
        Ok(())
    }
}

impl From<StateArg> for State {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Active => Self::Active,
            StateArg::Suspended => Self::Suspended,
            StateArg::Closed => Self::Closed,
        }
    }
}

pub(super) fn word(state: State) -> String {
    format!("{state:?}").to_lowercase()
}
