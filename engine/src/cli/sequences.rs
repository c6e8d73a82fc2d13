//! `pinwheel sequences`.

use super::office::{Caller, unexpected};
use super::screen::{remark, say, say_json, thousands};
use super::{Exit, SequencesArgs};
use crate::admin::{Reply, Request};
use crate::ledger::SequenceFact;
use std::fmt::Write;

/// Says one line for each fact: CSV, or JSON.
pub(super) fn sequences(caller: &Caller, args: &SequencesArgs) -> Result<(), Exit> {
    let terminals = args.terminal.iter().map(|terminal| terminal.0).collect();
    let request = Request::Sequences { since: args.since, terminals };
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
        if caller.json {
            text.push_str(&serde_json::to_string(row).expect("a fact has a JSON form"));
            text.push('\n');
            continue;
        }
        let SequenceFact { terminal, key_epoch, sequence, state, reference, variety } = row;
        let state = format!("{state:?}").to_lowercase();
        writeln!(text, "{terminal},{key_epoch},{sequence},{state},{reference},{variety}")
            .expect("text can be written to");
    }
    text
}
