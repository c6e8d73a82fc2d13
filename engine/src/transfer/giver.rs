//! The end that gives a segment up.

use super::{TransferFault, open_max};
use crate::ids::{SellerId, Span, VarietyId};
use crate::journal::record::{Record, Stream, TransferFact};
use crate::link::{CHUNK_BYTES_MAX, CHUNKS_IN_FLIGHT_MAX};
use crate::stock::PIN_RECORD_BYTES;
use std::collections::{BTreeMap, VecDeque};

/// Gives segments over one link and stream.
///
/// After every call, take [`Giver::poll_action`] until it is empty and do what it says, in that order. A record that
/// cannot be made durable stops the node: there is no way to take one back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Giver {
    stream: Stream,
    /// Whose link it is, for the log; 0: nobody said.
    node: SellerId,
    /// Whether content travels; the taker may have it already.
    sends_content: bool,
    /// The highest number given.
    highest: u64,
    /// What is not settled yet, by number.
    open: BTreeMap<u64, Open>,
    connected: bool,
    actions: VecDeque<GiverAction>,
}

/// What the owner of a [`Giver`] must do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum GiverAction {
    /// Make the record durable, then call [`Giver::handle_given`] for a [`Record::Given`] and
    /// [`Giver::handle_settled`] for a [`Record::Settled`].
    Record(Record),
    /// Send the offer.
    Offer {
        /// The transfer.
        fact: TransferFact,
        /// The request it serves; 0 when it is offered again.
        request: u64,
    },
    /// Send part of the content: `length` bytes from `offset` of the segment's records.
    Chunk {
        /// The transfer.
        number: u64,
        /// The segment.
        span: Span,
        /// Where the part begins.
        offset: u32,
        /// Its length in bytes, at most [`CHUNK_BYTES_MAX`].
        length: u32,
    },
    /// The taker's answer is durable here too. Accepted: only the content is kept, for retention. Refused: the segment
    /// is in this node's inventory again, under the generation of `fact`.
    Ended {
        /// The transfer.
        fact: TransferFact,
        /// Whether it was taken.
        accepted: bool,
    },
}

impl Giver {
    /// A giver with these books: the highest number of a durable OUT (0: none), and the OUTs that are not settled.
    #[must_use]
    pub fn new(stream: Stream, highest: u64, open: impl IntoIterator<Item = TransferFact>) -> Self {
        let restored = |fact: TransferFact| (fact.number, Open { phase: Phase::Out, ..Open::new(fact, 0) });
        let open = open.into_iter().map(restored).collect();
        let (node, actions) = (SellerId(0), VecDeque::new());
        Self { stream, node, sends_content: true, highest, open, connected: false, actions }
    }

    /// The same, which names the node of the link wherever it says in what state a transfer is.
    #[must_use]
    pub fn on_link_of(self, node: SellerId) -> Self {
        Self { node, ..self }
    }

    /// The same for a link on which the taker has all content already, so that none is sent.
    #[must_use]
    pub fn without_content(self) -> Self {
        Self { sends_content: false, ..self }
    }

    /// The highest number given, durably or not.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// All numbers below this are settled durably.
    #[must_use]
    pub fn settled_below(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(self.highest + 1)
    }

    /// The transfers that are not settled yet, by number.
    pub fn open(&self) -> impl Iterator<Item = &TransferFact> {
        self.open.values().map(|open| &open.fact)
    }

    /// The transfers that have no answer yet, by number.
    pub fn unanswered(&self) -> impl Iterator<Item = &TransferFact> {
        let unanswered = self.open.values().filter(|open| !matches!(open.phase, Phase::Settling(_)));
        unanswered.map(|open| &open.fact)
    }

    /// How many transfers are not settled yet.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Whether [`Giver::give`] may be called.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open.len() < open_max(self.stream)
    }

    /// Gives a segment up: it is in the transfer from now on. `generation` is higher than any it ever had. `request`
    /// is passed on in the offer if that goes out in this connection.
    ///
    /// # Panics
    /// Without [`Giver::has_room`].
    pub fn give(&mut self, span: Span, generation: u32, variety: VarietyId, request: u64) -> TransferFact {
        assert!(self.has_room(), "the caller asks first");
        self.highest += 1;
        let number = self.highest;
        let settled_below = self.settled_below().min(number);
        let fact = TransferFact { stream: self.stream, number, span, generation, variety, settled_below };
        self.say(&fact, "RECORDING");
        self.open.insert(number, Open::new(fact, request));
        self.actions.push_back(GiverAction::Record(Record::Given(fact)));
        fact
    }

    /// The OUT of `number` is durable.
    pub fn handle_given(&mut self, number: u64) {
        if let Some(open) = self.open.get_mut(&number)
            && open.phase == Phase::Recording
        {
            open.phase = Phase::Out;
            let fact = open.fact;
            self.say(&fact, "OUT");
        }
        self.offer_and_send();
    }

    /// The settlement of `number` is durable.
    pub fn handle_settled(&mut self, number: u64) {
        if let Some(Open { phase: Phase::Settling(accepted), fact, .. }) = self.open.get(&number) {
            let (fact, accepted) = (*fact, *accepted);
            self.say(&fact, if accepted { "ACCEPTED" } else { "REFUSED" });
            self.actions.push_back(GiverAction::Ended { fact, accepted });
            self.open.remove(&number);
        }
    }

    /// The link is up: everything open is offered (again). Returns how many offers go out at once.
    pub fn handle_connected(&mut self) -> u32 {
        self.handle_cut();
        self.connected = true;
        self.offer_and_send();
        self.open.values().filter(|open| open.offered).count() as u32
    }

    /// The link is gone, with everything on its way.
    pub fn handle_cut(&mut self) {
        self.connected = false;
        self.actions
            .retain(|action| !matches!(action, GiverAction::Offer { .. } | GiverAction::Chunk { .. }));
        for open in self.open.values_mut() {
            *open = Open { offered: false, request: 0, sent_bytes: 0, held_bytes: 0, ..*open };
        }
    }

    /// The taker holds `bytes` of the content.
    ///
    /// # Errors
    /// [`TransferFault`].
    pub fn handle_progress(&mut self, number: u64, bytes: u32) -> Result<(), TransferFault> {
        self.check_offered(number)?;
        let Some(open) = self.open.get_mut(&number) else { return Ok(()) };
        if bytes > open.bytes() {
            return Err(TransferFault::Malformed { number, what: "more bytes arrived than there are" });
        }
        open.held_bytes = open.held_bytes.max(bytes);
        open.sent_bytes = open.sent_bytes.max(bytes);
        self.offer_and_send();
        Ok(())
    }

    /// The taker's durable answer.
    ///
    /// # Errors
    /// [`TransferFault`].
    pub fn handle_answer(&mut self, number: u64, accepted: bool) -> Result<(), TransferFault> {
        self.check_offered(number)?;
        let Some(open) = self.open.get_mut(&number) else { return Ok(()) };
        match open.phase {
            Phase::Settling(before) if before != accepted => Err(TransferFault::Contradiction { number }),
            Phase::Settling(_) => Ok(()),
            Phase::Out | Phase::Recording => {
                open.phase = Phase::Settling(accepted);
                let transfer = open.fact;
                self.say(&transfer, if accepted { "SETTLING accepted" } else { "SETTLING refused" });
                self.actions.push_back(GiverAction::Record(Record::Settled { transfer, accepted }));
                Ok(())
            }
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<GiverAction> {
        self.actions.pop_front()
    }

    /// Says which state of `spec/stock-transfer.md` begins, before anything comes of it.
    fn say(&self, fact: &TransferFact, state: &str) {
        super::say("giver", self.node, fact, state);
    }

    fn check_offered(&self, number: u64) -> Result<(), TransferFault> {
        let unoffered = self.open.get(&number).is_some_and(|open| open.phase == Phase::Recording);
        if number == 0 || number > self.highest || unoffered {
            return Err(TransferFault::NeverOffered { number });
        }
        Ok(())
    }

    /// Offers what is durably OUT and sends what the windows allow, in the order of numbers.
    fn offer_and_send(&mut self) {
        if !self.connected {
            return;
        }
        let settled_below = self.settled_below();
        for (&number, open) in &mut self.open {
            if open.phase != Phase::Out {
                continue;
            }
            if !open.offered {
                open.offered = true;
                let fact = TransferFact { settled_below, ..open.fact };
                self.actions.push_back(GiverAction::Offer { fact, request: open.request });
            }
            while self.sends_content
                && let Some((offset, length)) = open.next_chunk()
            {
                open.sent_bytes += length;
                let span = open.fact.span;
                self.actions.push_back(GiverAction::Chunk { number, span, offset, length });
            }
        }
    }
}

/// A transfer that is not settled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Open {
    fact: TransferFact,
    phase: Phase,
    /// The request it serves, in the connection of that request; otherwise 0.
    request: u64,
    /// Whether it was offered in this connection.
    offered: bool,
    /// Content bytes sent, or known to be held, in this connection.
    sent_bytes: u32,
    /// Content bytes known to be held.
    held_bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// The OUT is not durable yet: nothing may leave.
    Recording,
    /// The OUT is durable.
    Out,
    /// The answer is not durable yet.
    Settling(bool),
}

impl Open {
    fn new(fact: TransferFact, request: u64) -> Self {
        Self { fact, phase: Phase::Recording, request, offered: false, sent_bytes: 0, held_bytes: 0 }
    }

    fn bytes(&self) -> u32 {
        self.fact.span.len() * PIN_RECORD_BYTES as u32
    }

    fn next_chunk(&self) -> Option<(u32, u32)> {
        let window_end = self.held_bytes.saturating_add(CHUNKS_IN_FLIGHT_MAX * CHUNK_BYTES_MAX);
        let length = self.bytes().min(window_end).checked_sub(self.sent_bytes)?.min(CHUNK_BYTES_MAX);
        (length > 0).then_some((self.sent_bytes, length))
    }
}
