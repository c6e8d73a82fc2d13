//! What happened in a run: counted, folded into one number, and, when somebody wants to read it, as text.

use crate::ids::{PinId, SellerId, Span};
use std::collections::BTreeMap;
use std::fmt;
use xxhash_rust::xxh3::Xxh3Default;

/// The record of one run.
#[derive(Default)]
pub struct Trace {
    /// Whether events are kept as text.
    keeps: bool,
    step: u64,
    now_ms: u64,
    /// Faults that began so far.
    pub(super) faults: u64,
    hash: Xxh3Default,
    counts: BTreeMap<&'static str, u64>,
    events: Vec<Event>,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    step: u64,
    now_ms: u64,
    name: &'static str,
    subject: Subject,
    detail: String,
}

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subject {
    /// The node, if it is about one.
    pub node: Option<SellerId>,
    /// The terminal's number; 0: none.
    pub terminal: u64,
    /// The sequence; 0: none.
    pub sequence: u64,
    /// The PINs.
    pub span: Option<Span>,
    /// The transfer's number, or another that the event has; it is part of the run's number.
    pub number: u64,
}

impl Subject {
    /// About a node.
    #[must_use]
    pub fn node(node: SellerId) -> Self {
        Self { node: Some(node), ..Self::default() }
    }

    /// About a sequence of a terminal at a seller.
    #[must_use]
    pub fn sequence(node: SellerId, terminal: u64, sequence: u64) -> Self {
        Self { node: Some(node), terminal, sequence, ..Self::default() }
    }

    /// The same, about this PIN; 0: none.
    #[must_use]
    pub fn pin(self, reference: u64) -> Self {
        let (pin, at) = (PinId(reference), u32::from(PinId(reference).index()));
        let span = Span { block: pin.block(), start: at, end: at + 1 };
        Self { span: (reference != 0).then_some(span), ..self }
    }

    /// The same, about these PINs, in this transfer.
    #[must_use]
    pub fn transfer(self, span: Span, number: u64) -> Self {
        Self { span: Some(span), number, ..self }
    }

    /// The same, with this number.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        Self { number, ..self }
    }
}

impl Trace {
    /// A record that keeps text only if somebody reads it: that costs ten times the run.
    #[must_use]
    pub fn new(keeps: bool) -> Self {
        Self { keeps, ..Self::default() }
    }

    /// The step that the run is in, from 0.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The run as one number: equal for equal runs.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// How often each kind of event happened.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The events, oldest first, if they were kept.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub(super) fn begin_step(&mut self, step: u64, now_ms: u64) {
        (self.step, self.now_ms) = (step, now_ms);
    }

    /// Something happened.
    pub(super) fn note(&mut self, name: &'static str, subject: Subject, detail: impl FnOnce() -> String) {
        let span = subject.span.unwrap_or_default();
        let node = subject.node.map_or(0, |node| node.0);
        self.hash.update(name.as_bytes());
        for word in [
            self.step,
            self.now_ms,
            u64::from(node),
            subject.terminal,
            subject.sequence,
            span.block.0,
            u64::from(span.start) << 32 | u64::from(span.end),
            subject.number,
        ] {
            self.hash.update(&word.to_le_bytes());
        }
        *self.counts.entry(name).or_default() += 1;
        if self.keeps {
            let detail = detail();
            let (step, now_ms) = (self.step, self.now_ms);
            self.events.push(Event { step, now_ms, name, subject, detail });
        }
    }
}

impl Event {
    /// Whether it is about one of these PINs.
    #[must_use]
    pub fn is_about(&self, pins: &[PinId]) -> bool {
        self.subject.span.is_some_and(|span| {
            pins.iter().any(|pin| {
                span.block == pin.block() && (span.start..span.end).contains(&u32::from(pin.index()))
            })
        })
    }

    /// Whether it is about a sequence of a terminal.
    #[must_use]
    pub fn is_of(&self, terminal: u64, sequence: u64) -> bool {
        (self.subject.terminal, self.subject.sequence) == (terminal, sequence)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, now_ms, name, subject, detail } = self;
        write!(f, "{step:>7} {:>9}.{:03}s  {name}", now_ms / 1000, now_ms % 1000)?;
        if let Some(node) = subject.node {
            write!(f, " node {}", node.0)?;
        }
        if subject.terminal != 0 {
            write!(f, " terminal {}", subject.terminal)?;
        }
        if subject.sequence != 0 {
            write!(f, " sequence {}", subject.sequence)?;
        }
        if let Some(Span { block, start, end }) = subject.span {
            write!(f, " PINs {:#x}/{start}..{end}", block.0)?;
        }
        if subject.number != 0 {
            write!(f, " no {}", subject.number)?;
        }
        if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
    }
}
