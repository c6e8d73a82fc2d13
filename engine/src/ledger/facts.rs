//! What the journal says of sequences, fact by fact, for whoever compares it with what terminals received.

use crate::journal::Record;
use crate::journal::record::VendName;
use serde::{Deserialize, Serialize};

/// What one record says of one sequence. Of several facts about a sequence the first final one holds.
///
/// Serialised as the list of its fields: there are many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub struct SequenceFact {
    /// The terminal.
    pub terminal: u64,
    /// The key epoch, which starts a numbering of its own.
    pub key_epoch: u32,
    /// The sequence.
    pub sequence: u64,
    /// What became of it.
    pub state: FactState,
    /// The PIN's reference; 0 where the record names none.
    pub reference: u64,
    /// The variety's number; 0 where the record names none.
    pub variety: u32,
}

type Fields = (u64, u32, u64, FactState, u64, u32);

impl From<Fields> for SequenceFact {
    fn from((terminal, key_epoch, sequence, state, reference, variety): Fields) -> Self {
        Self { terminal, key_epoch, sequence, state, reference, variety }
    }
}

impl From<SequenceFact> for Fields {
    fn from(fact: SequenceFact) -> Self {
        let SequenceFact { terminal, key_epoch, sequence, state, reference, variety } = fact;
        (terminal, key_epoch, sequence, state, reference, variety)
    }
}

/// What became of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactState {
    /// A PIN was sold.
    Sold,
    /// The terminal says that it has the PIN. May be said more than once.
    Confirmed,
    /// The PIN was voided.
    Voided,
    /// It ended without a PIN.
    Declined,
    /// It was voided before it was sold.
    Blocked,
    /// The PIN was printed once more.
    Reprinted,
}

impl FactState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sold => "sold",
            Self::Confirmed => "confirmed",
            Self::Voided => "voided",
            Self::Declined => "declined",
            Self::Blocked => "blocked",
            Self::Reprinted => "reprinted",
        }
    }
}

/// Gives what a record says of sequences to `take`.
pub fn facts(record: &Record, mut take: impl FnMut(SequenceFact)) {
    let mut say = |VendName { terminal, key_epoch, sequence }, state, reference, variety| {
        let (terminal, key_epoch) = (terminal.0, key_epoch.0);
        take(SequenceFact { terminal, key_epoch, sequence, state, reference, variety });
    };
    if let Record::Sold { vend, confirmed, .. }
    | Record::Declined { vend, confirmed, .. }
    | Record::Confirmed { vend, confirmed, .. } = *record
    {
        let mut left = confirmed;
        while left != 0 {
            let bit = u64::from(left.trailing_zeros());
            left &= left - 1;
            if let Some(sequence) = vend.sequence.checked_sub(1 + bit).filter(|sequence| *sequence > 0) {
                say(VendName { sequence, ..vend }, FactState::Confirmed, 0, 0);
            }
        }
    }
    match *record {
        Record::Sold { vend, pin, variety, .. } => say(vend, FactState::Sold, pin.0, variety.0),
        Record::Declined { vend, variety, .. } => say(vend, FactState::Declined, 0, variety.0),
        Record::Voided { vend, pin, variety, .. } => say(vend, FactState::Voided, pin.0, variety.0),
        Record::Blocked { vend, .. } => say(vend, FactState::Blocked, 0, 0),
        Record::Reprinted { vend, pin, .. } => say(vend, FactState::Reprinted, pin.0, 0),
        Record::Confirmed { .. }
        | Record::Withdrawn { .. }
        | Record::Received(_)
        | Record::Refused(_)
        | Record::Given(_)
        | Record::Settled { .. }
        | Record::Below { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{KeyEpoch, PinId, TerminalId, VarietyId};

    #[test]
    fn a_sale_says_what_it_confirms_and_then_what_was_sold() {
        let vend = VendName { terminal: TerminalId(7), key_epoch: KeyEpoch(2), sequence: 3 };
        let (pin, variety) = (PinId(9), VarietyId(4));
        let record = Record::Sold { vend, pin, variety, confirmed: 0b111, at_ms: 1 };
        let mut said = Vec::new();
        facts(&record, |fact| said.push((fact.sequence, fact.state, fact.reference, fact.variety)));
        let confirmed = FactState::Confirmed;
        // There is no sequence 0.
        assert_eq!(said, [(2, confirmed, 0, 0), (1, confirmed, 0, 0), (3, FactState::Sold, 9, 4)]);
    }
}
