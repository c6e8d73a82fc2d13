//! What the hub answers about a sequence of a seller that does not answer itself any more.

use super::{NotDone, Office};
use crate::hub::books::Fate;
use crate::ids::SellerId;
use crate::journal::record::VendName;
use crate::ledger::{FactState, SequenceFact};
use crate::link::Told;
use serde::{Deserialize, Serialize};
use wire::message::SequenceState;
use wire::settlement::SoldBox;

/// What a sequence came to, as far as the hub may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SequenceAnswer {
    /// The seller belongs to the network and answers for it: nobody else does.
    AskSeller,
    /// A PIN was sold.
    Sold {
        /// Its reference.
        reference: u64,
        /// Its variety's number.
        variety: u32,
        /// The terminal has said that it has it.
        confirmed: bool,
    },
    /// A PIN was sold, and voided.
    Voided {
        /// Its reference.
        reference: u64,
        /// Its variety's number.
        variety: u32,
    },
    /// It ended without a PIN.
    Declined,
    /// It was voided before it was sold.
    Blocked,
    /// It was never sold, and never will be.
    NeverSold,
    /// The seller is lost, and what it had reported says nothing of it: it is settled by its late journal or between people,
    /// never by a second PIN.
    Unsettled,
}

/// What holds for sequences of a seller of which its journal, as it is known, says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// The seller answers for them.
    #[default]
    AskSeller,
    /// They are unsettled.
    Unsettled,
    /// They were never sold, and never will be.
    NeverSold,
}

impl Office {
    /// The hub's answer about a sequence. It reads the seller's archive, so that it takes the longer the more was sold.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn answer(&self, seller: SellerId, vend: VendName) -> Result<SequenceAnswer, NotDone> {
        let beyond = self.beyond(seller)?;
        if beyond == Beyond::AskSeller {
            return Ok(SequenceAnswer::AskSeller);
        }
        let mut answer = match beyond {
            Beyond::NeverSold => SequenceAnswer::NeverSold,
            _ => SequenceAnswer::Unsettled,
        };
        let named = (vend.terminal.0, vend.key_epoch.0, vend.sequence);
        self.sequences(Some(seller.0), 0, &[vend.terminal.0], &mut |facts| {
            let own = facts.iter().filter(|fact| (fact.terminal, fact.key_epoch, fact.sequence) == named);
            answer = own.fold(answer, SequenceAnswer::after);
            true
        })?;
        Ok(answer)
    }

    /// What holds for the sequences of a seller that its journal, as far as it is here, does not tell of.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn beyond(&self, seller: SellerId) -> Result<Beyond, NotDone> {
        if self.desk.hub.is_none() {
            return Ok(Beyond::AskSeller);
        }
        let known = self.ask(move |hub| hub.fate(seller).map(|fate| (fate, hub.is_journal_whole(seller))))?;
        match known {
            None => Err(NotDone::NoSuchNode(seller.0.to_string())),
            Some((Fate::Member, _)) => Ok(Beyond::AskSeller),
            // Until its record is closed it may be started once more, and answer for itself.
            Some((Fate::Lost { .. }, _)) => Ok(Beyond::Unsettled),
            Some((Fate::Closed { .. }, _)) => Ok(Beyond::NeverSold),
        }
    }
}

impl SequenceAnswer {
    /// What a terminal elsewhere is told. A PIN is not handed out from an archive.
    #[must_use]
    pub fn told(self) -> Told {
        let (state, reference) = match self {
            Self::AskSeller => (SequenceState::InDoubt, 0),
            Self::Sold { reference, confirmed: true, .. } => (SequenceState::Confirmed, reference),
            Self::Sold { reference, .. } => (SequenceState::Sold, reference),
            Self::Voided { reference, .. } => (SequenceState::Voided, reference),
            Self::Declined => (SequenceState::Declined, 0),
            // Nobody will ever sell for it.
            Self::Blocked | Self::NeverSold => (SequenceState::Blocked, 0),
            Self::Unsettled => (SequenceState::Unsettled, 0),
        };
        Told { state, reference, sealed: SoldBox::NONE }
    }

    /// What it is after a fact; the first final state wins.
    #[must_use]
    pub fn after(self, fact: &SequenceFact) -> Self {
        let &SequenceFact { state, reference, variety, .. } = fact;
        match (state, self) {
            (FactState::Sold, Self::Unsettled | Self::NeverSold) => {
                Self::Sold { reference, variety, confirmed: false }
            }
            (FactState::Confirmed, Self::Sold { reference, variety, .. }) => {
                Self::Sold { reference, variety, confirmed: true }
            }
            (FactState::Voided, Self::Sold { reference, variety, confirmed: false }) => {
                Self::Voided { reference, variety }
            }
            (FactState::Declined, Self::Unsettled | Self::NeverSold) => Self::Declined,
            (FactState::Blocked, Self::Unsettled | Self::NeverSold) => Self::Blocked,
            (_, same) => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_4_the_first_final_state_of_a_sequence_is_the_hubs_answer() {
        use FactState::{Blocked, Confirmed, Declined, Reprinted, Sold, Voided};
        let after = |begin: SequenceAnswer, states: &[FactState]| {
            states.iter().fold(begin, |answer, &state| {
                let (terminal, key_epoch, sequence) = (1, 1, 1);
                answer.after(&SequenceFact { terminal, key_epoch, sequence, state, reference: 9, variety: 2 })
            })
        };
        let sold = |confirmed| SequenceAnswer::Sold { reference: 9, variety: 2, confirmed };
        let voided = SequenceAnswer::Voided { reference: 9, variety: 2 };
        for begin in [SequenceAnswer::Unsettled, SequenceAnswer::NeverSold] {
            assert_eq!(after(begin, &[]), begin);
            assert_eq!(after(begin, &[Sold]), sold(false));
            assert_eq!(after(begin, &[Sold, Reprinted, Confirmed, Voided]), sold(true));
            assert_eq!(after(begin, &[Sold, Voided, Confirmed]), voided);
            assert_eq!(
                after(begin, &[Declined, Sold]),
                SequenceAnswer::Declined,
                "never a PIN after a decline"
            );
            assert_eq!(after(begin, &[Blocked, Declined]), SequenceAnswer::Blocked);
        }
    }
}
