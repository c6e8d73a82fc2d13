//! `pinwheel sequences`.

use super::office::{Caller, unexpected};
use super::screen::{remark, say, say_json, thousands};
use super::{Exit, SequencesArgs};
use crate::admin::{Reply, Request};
use crate::ledger::SequenceFact;
use crate::network::{Beyond, SequenceAnswer};
use serde_json::json;
use std::fmt::Write;

/// Says one line for each fact: CSV, or JSON.
pub(super) fn sequences(caller: &Caller, args: &SequencesArgs) -> Result<(), Exit> {
    if let (Some(sequence), Some(seller), [terminal]) = (args.sequence, &args.seller, &args.terminal[..]) {
        return answer(caller, seller.clone(), terminal.0, args.key_epoch, sequence);
    }
    if args.sequence.is_some() {
        return Err(Exit::usage("name one terminal with --sequence"));
    }
    let terminals = args.terminal.iter().map(|terminal| terminal.0).collect();
    let request =
        Request::Sequences { seller: None, name: args.seller.clone(), since: args.since, terminals };
    if !caller.json {
        say("terminal,key_epoch,sequence,state,reference,variety\n");
    }
    let reply = caller.request_in_parts(&request, None, &mut |part| {
        if let Reply::Sequences { rows } = part {
            say(&lines(caller, &rows));
        }
    })?;
    match reply {
        Reply::SequencesEnd { .. } if caller.json => say_json(&reply),
        Reply::SequencesEnd { rows, end, beyond, .. } => {
            let beyond = match beyond {
                Beyond::AskSeller => "",
                Beyond::Unsettled => "; the seller is lost: what is not told here is unsettled",
                Beyond::NeverSold => "; the seller has left: what is not told here was never sold",
            };
            remark(&format!("{} facts, up to journal position {end}{beyond}\n", thousands(rows)));
        }
        other => return Err(unexpected(other)),
    }
    Ok(())
}

/// Says what the hub answers about one sequence.
fn answer(caller: &Caller, seller: String, terminal: u64, key_epoch: u32, sequence: u64) -> Result<(), Exit> {
    let request = Request::SequenceAnswer { seller, terminal, key_epoch, sequence };
    let answer = match caller.request(&request, None)? {
        Reply::SequenceAnswer { answer } => answer,
        other => return Err(unexpected(other)),
    };
    if caller.json {
        say_json(&answer);
        return Ok(());
    }
    say(&match answer {
        SequenceAnswer::AskSeller => "the seller answers for it: ask there\n".to_owned(),
        SequenceAnswer::Sold { reference, confirmed: false, .. } => format!("sold, reference {reference}\n"),
        SequenceAnswer::Sold { reference, .. } => format!("sold and confirmed, reference {reference}\n"),
        SequenceAnswer::Voided { reference, .. } => format!("voided, reference {reference}\n"),
        SequenceAnswer::Declined => "declined\n".to_owned(),
        SequenceAnswer::Blocked => "voided before it was sold\n".to_owned(),
        SequenceAnswer::NeverSold => "never sold\n".to_owned(),
        SequenceAnswer::Unsettled => "unsettled: the seller is lost and had not reported it\n".to_owned(),
    });
    Ok(())
}

fn lines(caller: &Caller, rows: &[SequenceFact]) -> String {
    let mut text = String::new();
    for row in rows {
        let SequenceFact { terminal, key_epoch, sequence, state, reference, variety } = *row;
        let line = if caller.json {
            writeln!(
                text,
                "{}",
                json!({
                    "terminal": terminal, "key_epoch": key_epoch, "sequence": sequence, "state": state,
                    "reference": reference, "variety": variety,
                })
            )
        } else {
            let state = state.word();
            writeln!(text, "{terminal},{key_epoch},{sequence},{state},{reference},{variety}")
        };
        line.expect("text can be written to");
    }
    text
}
