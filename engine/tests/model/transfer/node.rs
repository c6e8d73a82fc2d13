//! The hub or a seller: the real ends of its links, and an owner that does what they say.

use super::Flaw;
use super::books::{Books, Entry, LinkBooks};
use engine::ids::{BatchId, BlockId, Span, VarietyId};
use engine::journal::Record;
use engine::journal::record::{Stream, TransferFact};
use engine::link::Offer;
use engine::stock::{BlockProperties, Expiry, PIN_RECORD_BYTES};
use engine::transfer::{Giver, GiverAction, Taker, TakerAction};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// One node, with what a loss of power takes and what it leaves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Node {
    /// Durable.
    pub(super) books: Books,
    /// What the node may sell and give, in memory: each PIN with its generation.
    pub(super) held: BTreeMap<u32, u32>,
    /// Facts that are not durable yet, in their order.
    pub(super) unsynced: Vec<Entry>,
    /// Contents that are not durable yet, or being compared, with their links.
    pub(super) writing: Vec<(usize, Offer)>,
    /// Contents that are, by PIN and generation, as long as no IN names them.
    files: BTreeSet<(u32, u32)>,
    pub(super) ends: Vec<Ends>,
    is_hub: bool,
}

/// Both machines of one link.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ends {
    pub(super) giver: Giver,
    pub(super) taker: Taker,
}

/// What one node says to another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Message {
    Offer(Offer),
    Chunk { number: u64, span: Span, offset: u32, length: u32 },
    Progress { number: u64, bytes: u32 },
    Answer { number: u64, accepted: bool },
}

impl Node {
    /// A node with so many links that holds these PINs.
    pub(super) fn new(is_hub: bool, links: usize, pins: u32) -> Self {
        let held: BTreeMap<_, _> = (0..pins).map(|pin| (pin, 1)).collect();
        let known = held.clone();
        let books = Books { held, known, links: vec![LinkBooks::default(); links], ..Books::default() };
        let (unsynced, writing, files) = (Vec::new(), Vec::new(), BTreeSet::new());
        let held = books.held.clone();
        let ends = books.links.iter().map(|books| Ends::restored(is_hub, books)).collect();
        Self { books, held, unsynced, writing, files, ends, is_hub }
    }

    /// Gives a PIN that it holds.
    pub(super) fn give(&mut self, link: usize, pin: u32, flaw: Option<Flaw>) {
        let generation = self.held[&pin] + 1;
        if flaw != Some(Flaw::SellWhatIsGiven) {
            self.held.remove(&pin);
        }
        self.ends[link].giver.give(span_of(pin), generation, VarietyId(1), 0);
    }

    /// Sells a PIN that it holds.
    pub(super) fn sell(&mut self, pin: u32) {
        self.held.remove(&pin);
        self.unsynced.push(Entry::Sold(pin));
    }

    /// Does what the machines of a link say; what is to be sent.
    pub(super) fn run(&mut self, link: usize, flaw: Option<Flaw>) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let Ends { giver, taker } = &mut self.ends[link];
            if let Some(action) = giver.poll_action() {
                match action {
                    GiverAction::Record(record) => {
                        self.unsynced.push(Entry::Step(link, record));
                        if let (Some(Flaw::GiveUpAfterSend), Record::Given(fact)) = (flaw, record) {
                            giver.handle_given(fact.number);
                        }
                    }
                    GiverAction::Offer { fact, .. } => messages.push(Message::Offer(offer_of(fact))),
                    GiverAction::Chunk { number, span, offset, length } => {
                        messages.push(Message::Chunk { number, span, offset, length });
                    }
                    GiverAction::Ended { fact, accepted: false } => {
                        self.held.insert(fact.span.start, fact.generation);
                    }
                    GiverAction::Ended { .. } => {}
                }
            } else if let Some(action) = taker.poll_action() {
                match action {
                    TakerAction::WriteContent { offer, .. } | TakerAction::Compare(offer) => {
                        self.writing.push((link, offer));
                        match flaw {
                            Some(Flaw::RecordBeforeContent) => taker.handle_written(offer.number),
                            Some(Flaw::SellBeforeIn) => {
                                _ = self.held.insert(offer.span.start, offer.generation);
                            }
                            _ => {}
                        }
                    }
                    TakerAction::Record(record) => {
                        self.unsynced.push(Entry::Step(link, record));
                        let (Record::Received(fact) | Record::Refused(fact)) = record else { unreachable!() };
                        if flaw == Some(Flaw::AnswerBeforeDurable) {
                            taker.handle_recorded(fact.number);
                        }
                    }
                    TakerAction::Taken(offer) => _ = self.held.insert(offer.span.start, offer.generation),
                    TakerAction::Progress { number, bytes } => {
                        messages.push(Message::Progress { number, bytes });
                    }
                    TakerAction::Answer { number, accepted } => {
                        messages.push(Message::Answer { number, accepted });
                    }
                }
            } else {
                return messages;
            }
        }
    }

    /// Hears something over a link.
    ///
    /// # Errors
    /// A fault of the other end, which is honest: so there must be none.
    pub(super) fn hear(&mut self, link: usize, message: &Message) -> Result<(), &'static str> {
        let Ends { giver, taker } = &mut self.ends[link];
        let heard = match *message {
            Message::Offer(offer) => {
                let known = self.books.known.get(&offer.span.start).copied().unwrap_or(0);
                taker.handle_offer(offer, known)
            }
            Message::Chunk { number, span, offset, length } => {
                let content = content_of(span);
                taker.handle_chunk(number, offset, &content[offset as usize..][..length as usize])
            }
            Message::Progress { number, bytes } => giver.handle_progress(number, bytes),
            Message::Answer { number, accepted } => giver.handle_answer(number, accepted),
        };
        heard.map_err(|_| "an honest end is blamed")
    }

    /// The oldest fact becomes durable; the link whose machines know.
    pub(super) fn sync(&mut self) -> Result<Option<usize>, &'static str> {
        let entry = self.unsynced.remove(0);
        self.books.apply(&entry, &mut self.files)?;
        let Entry::Step(link, record) = entry else { return Ok(None) };
        let Ends { giver, taker } = &mut self.ends[link];
        match record {
            Record::Given(fact) => giver.handle_given(fact.number),
            Record::Settled { transfer, .. } => giver.handle_settled(transfer.number),
            Record::Received(fact) | Record::Refused(fact) => taker.handle_recorded(fact.number),
            _ => unreachable!("the books refuse it"),
        }
        Ok(Some(link))
    }

    /// The oldest content becomes durable; its link.
    pub(super) fn write(&mut self) -> usize {
        let (link, offer) = self.writing.remove(0);
        self.files.insert((offer.span.start, offer.generation));
        self.ends[link].taker.handle_written(offer.number);
        link
    }

    /// Power goes when so many of the facts that were on their way have reached the disk, and comes back.
    pub(super) fn crash(&mut self, reached: usize, flaw: Option<Flaw>) -> Result<(), &'static str> {
        for entry in self.unsynced.drain(..).take(reached) {
            self.books.apply(&entry, &mut self.files)?;
        }
        self.writing.clear();
        // What no IN names is removed.
        self.files.clear();
        self.held.clone_from(&self.books.held);
        for books in &mut self.books.links {
            match flaw {
                Some(Flaw::ForgetNumber) => books.given = books.open.keys().next_back().copied().unwrap_or(0),
                Some(Flaw::ForgetWatermark) => (books.taken, books.outcomes) = (0, BTreeMap::new()),
                Some(Flaw::ForgetOutcomes) => books.outcomes.clear(),
                _ => {}
            }
        }
        self.ends = self.books.links.iter().map(|books| Ends::restored(self.is_hub, books)).collect();
        Ok(())
    }
}

impl Ends {
    /// Content goes down only: the hub has every block's file.
    fn restored(is_hub: bool, books: &LinkBooks) -> Self {
        let giver = Giver::new(Stream::Bulk, books.given, books.open.values().copied());
        let taker = Taker::new(Stream::Bulk, books.taken, books.outcomes.values().copied());
        if is_hub {
            Self { giver, taker: taker.without_content() }
        } else {
            Self { giver: giver.without_content(), taker }
        }
    }
}

fn offer_of(fact: TransferFact) -> Offer {
    let content = content_of(fact.span);
    let (block, variety) = (fact.span.block, fact.variety);
    Offer {
        stream: fact.stream,
        number: fact.number,
        settled_below: fact.settled_below,
        request: 0,
        span: fact.span,
        generation: fact.generation,
        properties: BlockProperties { block, variety, batch: BatchId(1), expiry: Expiry::NONE },
        block_count: 8,
        wrapped_key: [0; 60],
        bytes: content.len() as u32,
        checksum: xxh3_64(&content),
    }
}

fn span_of(pin: u32) -> Span {
    Span { block: BlockId(5), start: pin, end: pin + 1 }
}

fn content_of(span: Span) -> Vec<u8> {
    vec![span.start as u8; span.len() as usize * PIN_RECORD_BYTES]
}
