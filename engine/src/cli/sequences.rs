//! `pinwheel sequences`.

use super::office::{Caller, unexpected};
use super::screen::{remark, say, say_json, thousands};
use super::{Exit, SequencesArgs};
use crate::admin::{Reply, Request};
use crate::ledger::SequenceFact;
use serde_json::json;
use std::fmt::Write;

/// Says one line for each fact: CSV, or JSON.
pub(super) fn sequences(caller: &Caller, args: &SequencesArgs) -> Result<(), Exit> {
    let terminals = args.terminal.iter().map(|terminal| terminal.0).collect();
    let request = Request::Sequences { seller: args.seller, since: args.since, terminals };
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
        Reply::SequencesEnd { rows, end, .. } => {
            remark(&format!("{} facts, up to journal position {end}\n", thousands(rows)));
        }
        other => return Err(unexpected(other)),
    }
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
