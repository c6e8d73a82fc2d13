//! A seller: its journal, what it says before and after its facts are durable.

use super::Flaw;
use std::collections::{BTreeMap, BTreeSet};

/// What a seller makes durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Fact {
    Sold {
        sequence: u8,
        pin: u8,
    },
    Confirmed {
        sequence: u8,
    },
    Voided {
        sequence: u8,
    },
    Blocked {
        sequence: u8,
    },
    /// The PIN goes back to the hub.
    Out {
        pin: u8,
    },
}

/// What became of a sequence that is not open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Answer {
    Sold(u8),
    Confirmed(u8),
    Voided(u8),
    Blocked,
}

/// What a terminal, or another seller for it, wants to be done with a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Action {
    Vend,
    Confirm,
    Void,
    /// Of another seller's: the state, and an open one is blocked.
    Resolve,
    /// Of another seller's: the PIN if it was sold.
    Pin,
}

/// What is said of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum State {
    /// Asked again it may be answered.
    Later,
    Is(Answer),
    /// The same without the PIN: from the hub's archive.
    SoldSomething,
    Unsettled,
    InDoubt,
}

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Asker {
    Terminal,
    /// Another seller, through the hub.
    Question,
}

/// What waits until what it says is durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Reply {
    pub(super) asker: Asker,
    pub(super) sequence: u8,
    pub(super) state: State,
    /// How many facts must yet become durable.
    ticket: usize,
}

/// One seller.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Seller {
    /// Its durable journal.
    pub(super) journal: Vec<Fact>,
    unsynced: Vec<Fact>,
    /// In memory, as the facts say, durable or not.
    pub(super) answers: BTreeMap<u8, Answer>,
    pub(super) stock: BTreeSet<u8>,
    /// What came to it, durably.
    pub(super) received: BTreeSet<u8>,
    waiting: Vec<Reply>,
    /// It has heard, and stored, that it was declared lost.
    pub(super) knows_it_is_lost: bool,
}

impl Seller {
    pub(super) fn with(pins: impl IntoIterator<Item = u8>) -> Self {
        let received: BTreeSet<u8> = pins.into_iter().collect();
        Self { stock: received.clone(), received, ..Self::default() }
    }

    pub(super) fn next_sequence(&self) -> u8 {
        self.answers.keys().next_back().copied().unwrap_or(0) + 1
    }

    pub(super) fn is_syncing(&self) -> bool {
        !self.unsynced.is_empty()
    }

    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Does what is asked; the answer waits for what it says.
    pub(super) fn handle(&mut self, asker: Asker, sequence: u8, action: Action, flaw: Option<Flaw>) {
        let fact = match (action, self.answers.get(&sequence).copied()) {
            (Action::Vend, None) if !self.knows_it_is_lost => {
                self.stock.first().map(|&pin| Fact::Sold { sequence, pin })
            }
            (Action::Void | Action::Resolve, None) => Some(Fact::Blocked { sequence }),
            (Action::Confirm, Some(Answer::Sold(_))) => Some(Fact::Confirmed { sequence }),
            (Action::Void, Some(Answer::Sold(_))) => Some(Fact::Voided { sequence }),
            _ => None,
        };
        if let Some(fact) = fact {
            self.record(fact, flaw);
        }
        let state = self.answers.get(&sequence).map_or(State::Later, |answer| State::Is(*answer));
        let ticket = if flaw == Some(Flaw::ReplyBeforeDurable) { 0 } else { self.unsynced.len() };
        self.waiting.push(Reply { asker, sequence, state, ticket });
    }

    /// Gives a PIN back, unsold.
    pub(super) fn give_back(&mut self, pin: u8) {
        self.record(Fact::Out { pin }, None);
    }

    /// The replies whose facts are durable.
    pub(super) fn released(&mut self) -> Vec<Reply> {
        self.waiting.extract_if(.., |reply| reply.ticket == 0).collect()
    }

    /// The oldest fact becomes durable.
    pub(super) fn sync(&mut self) {
        self.journal.push(self.unsynced.remove(0));
        self.waiting.iter_mut().for_each(|reply| reply.ticket = reply.ticket.saturating_sub(1));
    }

    /// Nobody waits for these any more.
    pub(super) fn forget(&mut self, is_over: impl Fn(Asker) -> bool) {
        self.waiting.retain(|reply| !is_over(reply.asker));
    }

    /// Power goes when so many of the unsynced facts have reached the disk, and comes back.
    pub(super) fn crash(&mut self, reached: usize, flaw: Option<Flaw>) {
        self.journal.extend(self.unsynced.drain(..).take(reached));
        self.waiting.clear();
        self.stock.clone_from(&self.received);
        self.answers.clear();
        for fact in self.journal.clone() {
            self.apply(fact, flaw);
        }
        if flaw == Some(Flaw::ForgetAnswers) {
            self.answers.clear();
        }
    }

    fn record(&mut self, fact: Fact, flaw: Option<Flaw>) {
        self.apply(fact, flaw);
        self.unsynced.push(fact);
    }

    fn apply(&mut self, fact: Fact, flaw: Option<Flaw>) {
        match fact {
            Fact::Voided { sequence } if flaw == Some(Flaw::ResellVoided) => {
                if let Some(Answer::Sold(pin)) = self.answers.get(&sequence) {
                    self.stock.insert(*pin);
                }
            }
            Fact::Sold { pin, .. } | Fact::Out { pin } => _ = self.stock.remove(&pin),
            _ => {}
        }
        take_in(&mut self.answers, fact);
    }
}

/// What a journal says of all sequences.
pub(super) fn fold(journal: &[Fact]) -> BTreeMap<u8, Answer> {
    let mut answers = BTreeMap::new();
    journal.iter().for_each(|fact| take_in(&mut answers, *fact));
    answers
}

fn take_in(answers: &mut BTreeMap<u8, Answer>, fact: Fact) {
    match fact {
        Fact::Sold { sequence, pin } => _ = answers.insert(sequence, Answer::Sold(pin)),
        Fact::Blocked { sequence } => _ = answers.insert(sequence, Answer::Blocked),
        Fact::Confirmed { sequence } => {
            if let Some(answer @ Answer::Sold(_)) = answers.get_mut(&sequence) {
                let Answer::Sold(pin) = *answer else { unreachable!() };
                *answer = Answer::Confirmed(pin);
            }
        }
        Fact::Voided { sequence } => {
            if let Some(answer @ Answer::Sold(_)) = answers.get_mut(&sequence) {
                let Answer::Sold(pin) = *answer else { unreachable!() };
                *answer = Answer::Voided(pin);
            }
        }
        Fact::Out { .. } => {}
    }
}
