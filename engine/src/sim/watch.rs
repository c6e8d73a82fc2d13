//! Names for what happens, so that it can be counted, and the list of all that could.

use super::faults::Kind;
use super::trace::Subject;
use crate::journal::Record;
use crate::journal::record::TransferStep;
use crate::link::{ToHub, ToNode};
use std::collections::BTreeMap;
use wire::message::{Reply, Request, SequenceState, SettleAction};

/// Faults, messages, requests, replies and records that no run came to.
#[must_use]
pub fn never_seen(counts: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    let kinds = Kind::ALL.iter().map(|kind| kind.word());
    let all = kinds.chain(UP.iter().chain(DOWN).chain(TERMINAL).chain(RECORDS).chain(OTHER).copied());
    all.filter(|name| !counts.contains_key(name)).collect()
}

pub(super) fn name_up(message: &ToHub) -> &'static str {
    match message {
        ToHub::Hello { .. } => "up hello",
        ToHub::Report(_) => "up report",
        ToHub::Need { .. } => "up need",
        ToHub::Urgent { .. } => "up urgent",
        ToHub::Progress { .. } => "up progress",
        ToHub::Answer { accepted: true, .. } => "up answer taken",
        ToHub::Answer { accepted: false, .. } => "up answer refused",
        ToHub::Journal { .. } => "up journal",
        ToHub::Offer(_) => "up offer",
        ToHub::Ready => "up ready",
        ToHub::Recalled { .. } => "up recalled",
        ToHub::Farewell { .. } => "up farewell",
        ToHub::Ask { .. } => "up ask",
        ToHub::Told { .. } => "up told",
        ToHub::RegistryHeld { .. } => "up registry held",
        ToHub::Below { .. } => "up below",
        ToHub::BelowGone { .. } => "up below gone",
    }
}

pub(super) fn name_down(message: &ToNode) -> &'static str {
    match message {
        ToNode::Asked { .. } => "down asked",
        ToNode::Told { .. } => "down told",
        ToNode::Welcome { .. } => "down welcome",
        ToNode::Ready => "down ready",
        ToNode::Offer(_) => "down offer",
        ToNode::Chunk { .. } => "down chunk",
        ToNode::Answered { granted: 0, .. } => "down answered none",
        ToNode::Answered { .. } => "down answered",
        ToNode::StockArrived { .. } => "down stock arrived",
        ToNode::JournalAcked { .. } => "down journal acked",
        ToNode::Registry(_) => "down registry",
        ToNode::RegistryDelta(_) => "down registry delta",
        ToNode::Recall { .. } => "down recall",
        ToNode::Progress { .. } => "down progress",
        ToNode::Answer { accepted: true, .. } => "down answer taken",
        ToNode::Answer { accepted: false, .. } => "down answer refused",
        ToNode::Drain { .. } => "down drain",
        ToNode::Lost => "down lost",
        ToNode::Farewell => "down farewell",
        ToNode::Closed => "down closed",
        ToNode::OldCopy => "down old copy",
        ToNode::Children(_) => "down children",
        ToNode::Below { .. } => "down below",
    }
}

pub(super) fn subject_up(message: &ToHub) -> Subject {
    let none = Subject::default();
    match message {
        ToHub::Offer(offer) => none.transfer(offer.span, offer.number),
        ToHub::Answer { number, .. } | ToHub::Progress { number, .. } => none.number(*number),
        ToHub::Journal { from, .. } => none.number(*from),
        ToHub::Ask { asked, .. } => {
            Subject { terminal: asked.vend.terminal.0, sequence: asked.vend.sequence, ..none }
        }
        ToHub::Told { question, told } => none.number(*question).pin(told.reference),
        ToHub::Below { message, .. } => subject_up(message),
        _ => none,
    }
}

pub(super) fn subject_down(message: &ToNode) -> Subject {
    let none = Subject::default();
    match message {
        ToNode::Offer(offer) => none.transfer(offer.span, offer.number),
        ToNode::Answer { number, .. } | ToNode::Chunk { number, .. } => none.number(*number),
        ToNode::JournalAcked { position } => none.number(*position),
        ToNode::Asked { asked, .. } => {
            Subject { terminal: asked.vend.terminal.0, sequence: asked.vend.sequence, ..none }
        }
        ToNode::Told { question, told } => none.number(*question).pin(told.reference),
        ToNode::Below { message, .. } => subject_down(message),
        _ => none,
    }
}

/// The name of a request, and the sequence it is about; 0: none.
pub(super) fn request_of(request: &Request) -> (&'static str, u64) {
    match request {
        Request::Login(_) => ("asks login", 0),
        Request::Catalogue { .. } => ("asks catalogue", 0),
        Request::Vend(vend) => ("asks vend", vend.sequence),
        Request::Confirm { sequence } => ("asks confirm", *sequence),
        Request::Void { sequence } => ("asks void", *sequence),
        Request::Status { sequence } => ("asks status", *sequence),
        Request::Reprint { sequence } => ("asks reprint", *sequence),
        Request::Settle(settle) => {
            let name = match settle.action {
                SettleAction::Resolve => "settles resolve",
                SettleAction::Status => "settles status",
                SettleAction::Confirm => "settles confirm",
                SettleAction::Void => "settles void",
                SettleAction::Pin => "settles pin",
            };
            (name, settle.sequence)
        }
    }
}

/// The name of a reply, its sequence and the reference of its PIN; 0: none.
pub(super) fn reply_of(reply: &Reply) -> (&'static str, u64, u64) {
    match reply {
        Reply::Sold(sold) if sold.copy == 0 => ("told sold", sold.sequence, sold.reference),
        Reply::Sold(sold) => ("told copy", sold.sequence, sold.reference),
        Reply::Declined { sequence, .. } => ("told declined", *sequence, 0),
        Reply::State { sequence, state, reference } => ("told state", *sequence, shown(*state, *reference)),
        Reply::Refused { sequence, .. } => ("told refused", *sequence, 0),
        Reply::Later { sequence, .. } => ("told later", *sequence, 0),
        Reply::Welcome(_) => ("told welcome", 0, 0),
        Reply::Resolved(_) => ("told resolved", 0, 0),
        Reply::Catalogue(_) => ("told catalogue", 0, 0),
        Reply::Settled(settled) => {
            let name = match settled.state {
                SequenceState::InDoubt => "settled in doubt",
                SequenceState::Open => "settled open",
                SequenceState::Unsettled => "settled unsettled",
                _ if !settled.sealed.is_none() => "settled with pin",
                _ => "settled",
            };
            (name, settled.sequence, shown(settled.state, settled.reference))
        }
    }
}

/// A reply without the PIN that it may hold.
pub(super) fn describe(reply: &Reply) -> String {
    match reply {
        Reply::Sold(sold) => format!("copy {}", sold.copy),
        Reply::Settled(settled) => format!("by node {}: {:?}", settled.seller.0, settled.state),
        reply => format!("{reply:?}"),
    }
}

pub(super) fn record_of(record: &Record) -> &'static str {
    match record {
        Record::Sold { .. } => "record sold",
        Record::Declined { .. } => "record declined",
        Record::Confirmed { .. } => "record confirmed",
        Record::Voided { .. } => "record voided",
        Record::Blocked { .. } => "record blocked",
        Record::Reprinted { .. } => "record reprinted",
        Record::Withdrawn { .. } => "record withdrawn",
        Record::Received(_) => "record received",
        Record::Refused(_) => "record refused",
        Record::Given(_) => "record given",
        Record::Settled { accepted: true, .. } => "record settled taken",
        Record::Settled { accepted: false, .. } => "record settled refused",
        Record::Below { step, .. } => match step {
            TransferStep::Given(_) => "record below given",
            TransferStep::Settled { accepted: true, .. } => "record below settled taken",
            TransferStep::Settled { accepted: false, .. } => "record below settled refused",
            TransferStep::Received(_) => "record below received",
            TransferStep::Refused(_) => "record below refused",
        },
    }
}

fn shown(state: SequenceState, reference: u64) -> u64 {
    if state == SequenceState::Open { 0 } else { reference }
}

const UP: &[&str] = &[
    "up hello",
    "up report",
    "up need",
    "up urgent",
    "up progress",
    "up answer taken",
    "up answer refused",
    "up journal",
    "up offer",
    "up ready",
    "up recalled",
    "up farewell",
    "up ask",
    "up told",
    "up registry held",
    "up below",
    "up below gone",
];
/// But for progress: nobody says it to a node, because what comes back has no content.
const DOWN: &[&str] = &[
    "down asked",
    "down told",
    "down welcome",
    "down ready",
    "down offer",
    "down chunk",
    "down answered none",
    "down answered",
    "down stock arrived",
    "down journal acked",
    "down registry",
    "down registry delta",
    "down recall",
    "down answer taken",
    "down answer refused",
    "down drain",
    "down lost",
    "down farewell",
    "down closed",
    "down old copy",
    "down children",
    "down below",
];
const TERMINAL: &[&str] = &[
    "asks login",
    "asks catalogue",
    "asks vend",
    "asks confirm",
    "asks void",
    "asks status",
    "asks reprint",
    "settles resolve",
    "settles status",
    "settles confirm",
    "settles void",
    "settles pin",
    "told sold",
    "told copy",
    "told declined",
    "told state",
    "told refused",
    "told later",
    "told welcome",
    "told resolved",
    "told catalogue",
    "settled in doubt",
    "settled open",
    "settled unsettled",
    "settled with pin",
    "settled",
];
const RECORDS: &[&str] = &[
    "record sold",
    "record declined",
    "record confirmed",
    "record voided",
    "record blocked",
    "record reprinted",
    "record withdrawn",
    "record received",
    "record refused",
    "record given",
    "record settled taken",
    "record settled refused",
    "record below given",
    "record below settled taken",
    "record below settled refused",
    "record below received",
    "record below refused",
];
const OTHER: &[&str] = &[
    "node stops",
    "hub stops",
    "link opens",
    "hub answers for",
    "hub gives pin of",
    "start waits for room",
    "node declared lost",
    "node stops in good order",
    "node is down",
    "node closed",
    "closed node calls",
    "old copy found out",
    "old hub found out",
    "late request dropped",
    "late reply dropped",
    "hello overtaken",
    "decay found out",
    "decay did not matter",
];
