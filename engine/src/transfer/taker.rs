//! The end that takes a segment.

use super::{TransferFault, open_max};
use crate::ids::{SellerId, Span};
use crate::journal::record::{Record, Stream, TransferFact};
use crate::link::{CHUNK_BYTES_MAX, CHUNKS_IN_FLIGHT_MAX, Offer};
use crate::stock::{BLOCK_PINS_MAX, PIN_RECORD_BYTES};
use std::collections::{BTreeMap, VecDeque};
use xxhash_rust::xxh3::xxh3_64;

/// Takes segments over one link and stream.
///
/// After every call, take [`Taker::poll_action`] until it is empty and do what it says, in that order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Taker {
    stream: Stream,
    /// Whose link it is, for the log; 0: nobody said.
    node: SellerId,
    /// Whether content travels; this end may have it already.
    takes_content: bool,
    /// The highest number with a record, durable or on its way there: the watermark.
    highest: u64,
    /// How transfers up to the watermark ended, as long as the giver may ask.
    outcomes: BTreeMap<u64, Outcome>,
    /// Transfers above the watermark, without gap.
    incoming: VecDeque<Incoming>,
    actions: VecDeque<TakerAction>,
}

/// What the owner of a [`Taker`] must do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TakerAction {
    /// Write the content to a file of its own, durably with its directory entry, then call [`Taker::handle_written`].
    /// Without room for it: try again later, or [`Taker::refuse`].
    WriteContent {
        /// What it is.
        offer: Offer,
        /// The segment's records.
        bytes: Vec<u8>,
    },
    /// On a link without content: compare the offer with what this end has, then call [`Taker::handle_written`], or
    /// [`Taker::refuse`] if it does not agree.
    Compare(Offer),
    /// Make the record durable, then call [`Taker::handle_recorded`].
    Record(Record),
    /// The segment is in this node's inventory: content and IN are durable, it may be sold.
    Taken(Offer),
    /// Tell the giver how much is held.
    Progress {
        /// The transfer.
        number: u64,
        /// Content bytes held.
        bytes: u32,
    },
    /// Tell the giver how the transfer ended.
    Answer {
        /// The transfer.
        number: u64,
        /// Whether it was taken.
        accepted: bool,
    },
}

impl Taker {
    /// A taker with these books: the highest number with a durable IN or REFUSED (0: none), and how those that the
    /// giver may still ask about ended (`true`: taken).
    #[must_use]
    pub fn new(
        stream: Stream,
        highest: u64,
        outcomes: impl IntoIterator<Item = (TransferFact, bool)>,
    ) -> Self {
        let restored = |(fact, accepted): (TransferFact, bool)| {
            let (span, generation) = (fact.span, fact.generation);
            (fact.number, Outcome { span, generation, accepted, durable: true, asked: false, offer: None })
        };
        let outcomes = outcomes.into_iter().map(restored).collect();
        let (node, incoming, actions) = (SellerId(0), VecDeque::new(), VecDeque::new());
        Self { stream, node, takes_content: true, highest, outcomes, incoming, actions }
    }

    /// The same, which names the node of the link wherever it says in what state a transfer is.
    #[must_use]
    pub fn on_link_of(self, node: SellerId) -> Self {
        Self { node, ..self }
    }

    /// The same for a link on which this end has all content already, so that none comes.
    #[must_use]
    pub fn without_content(self) -> Self {
        Self { takes_content: false, ..self }
    }

    /// The highest number with a record, durable or on its way there.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// How transfers ended that the giver may still ask about, with their numbers: `true`, taken.
    pub fn outcomes(&self) -> impl Iterator<Item = (u64, bool)> {
        self.outcomes.iter().map(|(number, outcome)| (*number, outcome.accepted))
    }

    /// The offers that have no record yet, by number.
    pub fn incoming(&self) -> impl ExactSizeIterator<Item = &Offer> {
        self.incoming.iter().map(|incoming| &incoming.offer)
    }

    /// The offers that may yet become this node's: without a record, or accepted by one that is not durable.
    pub fn arriving(&self) -> impl Iterator<Item = &Offer> {
        let accepted = self.outcomes.values().filter(|outcome| outcome.accepted);
        self.incoming().chain(accepted.filter_map(|outcome| outcome.offer.as_ref()))
    }

    /// An offer arrived. `generation_known` is the highest ownership generation that this node has recorded for any
    /// PIN of the offered span, whether it still owns it or not; 0 if it never had one.
    ///
    /// # Errors
    /// [`TransferFault`].
    pub fn handle_offer(&mut self, offer: Offer, generation_known: u32) -> Result<(), TransferFault> {
        self.check_offer(&offer)?;
        let Offer { number, span, generation, .. } = offer;
        if number <= self.highest {
            let outcome = self.outcomes.get_mut(&number).ok_or(TransferFault::SettledBefore { number })?;
            if (outcome.span, outcome.generation) != (span, generation) {
                return Err(TransferFault::Renumbered { number });
            }
            outcome.asked = true;
            if outcome.durable {
                self.actions.push_back(TakerAction::Answer { number, accepted: outcome.accepted });
            }
        } else if let Some(incoming) = self.incoming.iter_mut().find(|known| known.offer.number == number) {
            if (incoming.offer.span, incoming.offer.generation) != (span, generation) {
                return Err(TransferFault::Renumbered { number });
            }
            incoming.asked = true;
            if let Content::Filling { bytes } = &incoming.content
                && !bytes.is_empty()
            {
                let bytes = bytes.len() as u32;
                incoming.reported_bytes = bytes;
                self.actions.push_back(TakerAction::Progress { number, bytes });
            }
        } else {
            self.begin(offer, generation_known)?;
        }
        // What the giver has settled durably it never asks about again.
        self.outcomes.retain(|&known, outcome| known >= offer.settled_below || !outcome.durable);
        Ok(())
    }

    /// Part of an offer's content arrived.
    ///
    /// # Errors
    /// [`TransferFault`].
    pub fn handle_chunk(&mut self, number: u64, offset: u32, bytes: &[u8]) -> Result<(), TransferFault> {
        let malformed = |what| Err(TransferFault::Malformed { number, what });
        if bytes.is_empty() || bytes.len() > CHUNK_BYTES_MAX as usize {
            return malformed("a chunk is empty or too large");
        }
        if number <= self.highest {
            return Ok(());
        }
        let Some(incoming) = self.incoming.iter_mut().find(|known| known.offer.number == number) else {
            return malformed("a chunk came before its offer");
        };
        let Content::Filling { bytes: held } = &mut incoming.content else { return Ok(()) };
        let (total, offset) = (incoming.offer.bytes as usize, offset as usize);
        if offset > held.len() {
            return malformed("a chunk is missing");
        }
        if offset + bytes.len() > total {
            return malformed("a chunk goes beyond the content");
        }
        let Some(new) = bytes.get(held.len() - offset..) else { return Ok(()) };
        held.extend_from_slice(new);
        let held_bytes = held.len();
        if held_bytes < total {
            if held_bytes - incoming.reported_bytes as usize >= REPORT_BYTES as usize {
                incoming.reported_bytes = held_bytes as u32;
                self.actions.push_back(TakerAction::Progress { number, bytes: held_bytes as u32 });
            }
        } else if xxh3_64(held) == incoming.offer.checksum {
            let (offer, bytes) = (incoming.offer, std::mem::take(held));
            incoming.content = Content::Writing;
            self.say(&offer, "WRITING");
            self.actions.push_back(TakerAction::WriteContent { offer, bytes });
        } else {
            // The link lets no damage pass, so the giver's content is damaged: it must keep it.
            tracing::warn!("transfer {number}: its content does not match its checksum, and is refused");
            self.refuse(number);
        }
        Ok(())
    }

    /// The content of `number` is durable, with its directory entry.
    pub fn handle_written(&mut self, number: u64) {
        if let Some(incoming) = self.incoming.iter_mut().find(|known| known.offer.number == number)
            && matches!(incoming.content, Content::Writing)
        {
            incoming.content = Content::Written;
            let offer = incoming.offer;
            self.say(&offer, "WRITTEN");
            self.record_in_order();
        }
    }

    /// Decides not to take `number`, if nothing is recorded for it yet. A content written or being written for it is
    /// the owner's to remove, at the latest after the next start: no IN names it.
    pub fn refuse(&mut self, number: u64) {
        if let Some(incoming) = self.incoming.iter_mut().find(|known| known.offer.number == number) {
            incoming.content = Content::Refused;
            let offer = incoming.offer;
            self.say(&offer, "REFUSING");
            self.record_in_order();
        }
    }

    /// The IN or REFUSED of `number` is durable.
    pub fn handle_recorded(&mut self, number: u64) {
        let Some(outcome) = self.outcomes.get_mut(&number) else { return };
        if outcome.durable {
            return;
        }
        outcome.durable = true;
        let (accepted, asked) = (outcome.accepted, outcome.asked);
        if let Some(offer) = outcome.offer.take() {
            self.say(&offer, if accepted { "RECEIVED" } else { "REFUSED" });
            if accepted {
                self.actions.push_back(TakerAction::Taken(offer));
            }
        }
        if asked {
            self.actions.push_back(TakerAction::Answer { number, accepted });
        }
    }

    /// The link is gone, with everything on its way. What has arrived is kept for the next connection.
    pub fn handle_cut(&mut self) {
        self.actions
            .retain(|action| !matches!(action, TakerAction::Progress { .. } | TakerAction::Answer { .. }));
        self.outcomes.values_mut().for_each(|outcome| outcome.asked = false);
        self.incoming.iter_mut().for_each(|incoming| incoming.asked = false);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<TakerAction> {
        self.actions.pop_front()
    }

    /// Says which state of `spec/stock-transfer.md` begins, before anything comes of it.
    fn say(&self, offer: &Offer, state: &str) {
        super::say("taker", self.node, &offer.fact(), state);
    }

    fn check_offer(&self, offer: &Offer) -> Result<(), TransferFault> {
        let Offer { number, span, .. } = *offer;
        let malformed = |what| Err(TransferFault::Malformed { number, what });
        if offer.stream != self.stream || number == 0 || offer.settled_below > number {
            return malformed("its number or stream is impossible");
        }
        if span.start >= span.end || span.end > offer.block_count || offer.block_count > BLOCK_PINS_MAX {
            return malformed("its range is impossible");
        }
        if span.block != offer.properties.block || offer.bytes != span.len() * PIN_RECORD_BYTES as u32 {
            return malformed("its content is not that of its range");
        }
        if self.stream == Stream::Urgent && span.len() != 1 {
            return malformed("an urgent transfer carries one PIN");
        }
        Ok(())
    }

    fn begin(&mut self, offer: Offer, generation_known: u32) -> Result<(), TransferFault> {
        let expected = self.highest + self.incoming.len() as u64 + 1;
        if offer.number != expected {
            return Err(TransferFault::Gap { number: offer.number, expected });
        }
        if self.incoming.len() >= open_max(self.stream) {
            return Err(TransferFault::TooMany { open_max: open_max(self.stream) });
        }
        // What is on its way into the books counts like what is in them.
        let under_way = self.incoming.iter().map(|known| (known.offer.span, known.offer.generation));
        let unrecorded = self.outcomes.values().filter(|o| !o.durable).map(|o| (o.span, o.generation));
        let overlapping = under_way.chain(unrecorded).filter(|(span, _)| overlap(*span, offer.span));
        let generation_known = overlapping.map(|(_, generation)| generation).fold(generation_known, u32::max);
        let content = if offer.generation <= generation_known {
            self.say(&offer, "REFUSING");
            Content::Refused
        } else if self.takes_content {
            self.say(&offer, "FILLING");
            Content::Filling { bytes: Vec::with_capacity(offer.bytes as usize) }
        } else {
            self.say(&offer, "WRITING");
            self.actions.push_back(TakerAction::Compare(offer));
            Content::Writing
        };
        self.incoming.push_back(Incoming { offer, content, asked: true, reported_bytes: 0 });
        self.record_in_order();
        Ok(())
    }

    /// Records what is decided, in the order of numbers: the watermark never passes an undecided one.
    fn record_in_order(&mut self) {
        while let Some(front) = self.incoming.front() {
            let accepted = match front.content {
                Content::Written => true,
                Content::Refused => false,
                Content::Filling { .. } | Content::Writing => return,
            };
            let (offer, asked) = (front.offer, front.asked);
            self.say(&offer, if accepted { "RECORDING accepted" } else { "RECORDING refused" });
            self.incoming.pop_front();
            self.highest = offer.number;
            let (span, generation) = (offer.span, offer.generation);
            let outcome = Outcome { span, generation, accepted, durable: false, asked, offer: Some(offer) };
            self.outcomes.insert(offer.number, outcome);
            let fact = offer.fact();
            let record = if accepted { Record::Received(fact) } else { Record::Refused(fact) };
            self.actions.push_back(TakerAction::Record(record));
        }
    }
}

/// An offer above the watermark.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Incoming {
    offer: Offer,
    content: Content,
    /// Whether it was offered in this connection.
    asked: bool,
    /// Content bytes last reported.
    reported_bytes: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Content {
    /// Arriving.
    Filling {
        /// What has arrived.
        bytes: Vec<u8>,
    },
    /// Complete, not durable yet; or being compared.
    Writing,
    /// Durable.
    Written,
    /// Not wanted.
    Refused,
}

/// How a transfer ended here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Outcome {
    span: Span,
    generation: u32,
    accepted: bool,
    durable: bool,
    /// Whether the giver asked in this connection.
    asked: bool,
    /// Until it is durable.
    offer: Option<Offer>,
}

fn overlap(a: Span, b: Span) -> bool {
    a.block == b.block && a.start < b.end && b.start < a.end
}

/// Report after this many bytes: half the window, so that it never runs dry while reports travel.
const REPORT_BYTES: u32 = CHUNKS_IN_FLIGHT_MAX / 2 * CHUNK_BYTES_MAX;
