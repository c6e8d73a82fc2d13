//! A broken law, and how the news of it leaves a run.

use super::oracle::Sequence;
use crate::ids::{PinId, Span};

/// A law was broken in a run. It unwinds as a panic, as a mistake in the engine does, and both are caught in one place.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// Which law.
    pub(super) law: u8,
    /// What happened.
    pub(super) what: String,
    pub(super) concerned: Concerned,
}

/// What a broken law is about.
#[derive(Clone, Default, Debug)]
pub(super) struct Concerned {
    pub(super) pins: Vec<PinId>,
    pub(super) sequences: Vec<Sequence>,
}

impl Concerned {
    pub(super) fn pin(pin: PinId) -> Self {
        Self { pins: vec![pin], sequences: Vec::new() }
    }

    /// The first PINs of a span.
    pub(super) fn span(span: Span) -> Self {
        let pins = (span.start..span.end).take(4).map(|index| PinId::new(span.block, index as u16));
        Self { pins: pins.collect(), sequences: Vec::new() }
    }

    pub(super) fn sequence(sequence: Sequence) -> Self {
        Self { pins: Vec::new(), sequences: vec![sequence] }
    }

    pub(super) fn sale(sequence: Sequence, pin: PinId) -> Self {
        let pins = if pin == PinId(0) { Vec::new() } else { vec![pin] };
        Self { pins, sequences: vec![sequence] }
    }
}

/// Ends the run.
pub(super) fn broken(law: u8, what: String, concerned: Concerned) -> ! {
    std::panic::panic_any(Broken { law, what, concerned })
}
