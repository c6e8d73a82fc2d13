//! Nodes that are lost or have left: `pinwheel node lost`, `doubts`, `settle` and `close`.

use super::office::{Caller, unexpected};
use super::screen::{confirmed, instant, say, say_json, table, thousands};
use super::{Exit, SettleArg, SettleArgs};
use crate::admin::{Reply, Request};
use crate::hub::DoubtState;
use crate::network::{Doubt, LostNode, PinsOf, Which};
use crate::registry::price;

impl Caller {
    pub(super) fn node_lost(&self, node: String, yes: bool) -> Result<(), Exit> {
        let prospect = self.lost_node(&Request::LookAtLost { node: node.clone() })?;
        if !yes {
            let LostNode { name, heard_ms, .. } = &prospect;
            let heard = instant(*heard_ms).map_or("never".to_owned(), |at| format!("at {at} UTC"));
            let question = format!(
                "{name} was last heard {heard}. It is declared lost for good: it never sells again.\n\
                 These PINs come to be in doubt: nobody gets them until its journal or you settle them.\n{}\
                 What it sold and did not report is told `unsettled`.\nDeclare {name} lost?",
                pins_text(&prospect.holds)
            );
            ask(&question)?;
        }
        let lost = self.lost_node(&Request::Lose { node })?;
        if self.json {
            say_json(&lost);
        } else {
            let pins: u64 = lost.holds.iter().map(|of| of.pins).sum();
            say(&format!("{} is lost: {} PINs are in doubt\n", lost.name, thousands(pins)));
        }
        Ok(())
    }

    pub(super) fn node_doubts(&self, node: Option<String>, open: bool) -> Result<(), Exit> {
        let mut doubts = match self.request(&Request::ListDoubts { node }, None)? {
            Reply::Doubts { doubts } => doubts,
            other => return Err(unexpected(other)),
        };
        doubts.retain(|doubt| !open || doubt.state == DoubtState::InDoubt);
        if self.json {
            say_json(&doubts);
            return Ok(());
        }
        let row = |doubt: &Doubt| {
            let (first, last) = doubt.serials.clone().unwrap_or_default();
            vec![
                doubt.seller.to_string(),
                doubt.of.code.clone(),
                thousands(doubt.of.pins),
                value_text(&doubt.of),
                first,
                last,
                doubt.state.to_string(),
                instant(doubt.at_ms).unwrap_or_default(),
                doubt.note.clone(),
            ]
        };
        let headings = [
            ">seller",
            "variety",
            ">PINs",
            ">value",
            "first serial",
            "last serial",
            "state",
            "since (UTC)",
            "note",
        ];
        say(&table(&headings, &doubts.iter().map(row).collect::<Vec<_>>()));
        Ok(())
    }

    pub(super) fn node_settle(&self, args: SettleArgs) -> Result<(), Exit> {
        let SettleArgs { node, becomes, variety, serials, note, yes } = args;
        if becomes == SettleArg::Returned {
            return Err(Exit::no(
                "what a lost node may have sold is never sold again unless its own journal says that it was not: start the \
                 node on its data, and it hands its journal in and gives the rest back [needs_journal]",
            ));
        }
        if !yes {
            ask(&format!(
                "What is in doubt at {node} and was named is withdrawn for good: nobody gets it, whatever its journal says \
                 later, but what it sold counts as sold.\nWithdraw it?"
            ))?;
        }
        let which = Which { variety, serials };
        let settled = self.lost_node(&Request::WriteOff { node, which, note })?;
        if self.json {
            say_json(&settled);
        } else {
            say(&format!("withdrawn for good:\n{}", pins_text(&settled.holds)));
        }
        Ok(())
    }

    pub(super) fn node_close(&self, node: &str) -> Result<(), Exit> {
        match self.request(&Request::CloseNode { node: node.to_owned() }, None)? {
            Reply::Changed { .. } if self.json => say_json(&serde_json::json!({ "closed": node })),
            Reply::Changed { .. } => say(&format!("{node} has left: the hub answers for its sequences\n")),
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    fn lost_node(&self, request: &Request) -> Result<LostNode, Exit> {
        match self.request(request, None)? {
            Reply::Lost(lost) => Ok(lost),
            other => Err(unexpected(other)),
        }
    }
}

fn ask(question: &str) -> Result<(), Exit> {
    if confirmed(question) { Ok(()) } else { Err(Exit::no("nothing was changed: say yes, or --yes")) }
}

fn pins_text(holds: &[PinsOf]) -> String {
    let row = |of: &PinsOf| vec![of.code.clone(), thousands(of.pins), value_text(of)];
    table(&["variety", ">PINs", ">value"], &holds.iter().map(row).collect::<Vec<_>>())
}

fn value_text(of: &PinsOf) -> String {
    price(of.value, of.currency_digits, &of.currency)
}
