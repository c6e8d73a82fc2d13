//! A small blocking terminal: keeps what must be kept, repeats what may have been lost.
//!
//! The order of things is the protocol's: a sale is saved before its first vend leaves, every further vend of it
//! says `repeat`, and it is forgotten only when its seller has said that it is final.

mod connection;
mod link;
mod store;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::vec::Vec;

use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use self::connection::Incoming;
use self::link::Link;
pub use self::store::{FileStore, MemoryStore, Sale, SaleState, Store, StoreError, TerminalState};
use crate::control::ErrorCode;
use crate::message::{
    Attempt, CatalogueEntry, DeclineReason, KeyEpoch, LaterReason, Outcome, RefuseReason, Reply, Request,
    SellerId, SequenceState, Sold, TerminalId, UNRESOLVED_MAX, Vend, WINDOW, Welcome,
};
use crate::session::{Mode, SessionError, Suite};

/// Who the terminal is and where it connects.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to connect, tried in turn.
    pub addresses: Vec<SocketAddr>,
    /// The terminal's own name.
    pub terminal: TerminalId,
    /// Which of its keys `key` is.
    pub key_epoch: KeyEpoch,
    /// The key that it shares with its sellers.
    pub key: Zeroizing<[u8; 32]>,
    /// The primitives to use.
    pub suite: Suite,
    /// Sealed, unless the listener allows clear mode.
    pub mode: Mode,
    /// How long one attempt to connect may take, up to the welcome.
    pub connect_timeout: Duration,
    /// How long one request waits for its answer before it is repeated on a new connection.
    pub reply_timeout: Duration,
}

impl Config {
    /// A sealed AES-GCM terminal with time-outs of 5 s for a connection and 10 s for a reply.
    #[must_use]
    pub fn new(address: SocketAddr, terminal: TerminalId, key_epoch: KeyEpoch, key: [u8; 32]) -> Self {
        Self {
            addresses: Vec::from([address]),
            terminal,
            key_epoch,
            key: Zeroizing::new(key),
            suite: Suite::AesGcm,
            mode: Mode::Sealed,
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(10),
        }
    }
}

/// Names one sale of this terminal's key epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SaleId {
    /// Who answers for the sequence.
    pub seller: SellerId,
    /// The sequence.
    pub sequence: u64,
}

/// What became of a vend in the time it had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vended {
    /// A PIN: print it and confirm, or void.
    Sold(SaleId, Sold),
    /// Final: no PIN.
    Declined(SaleId, DeclineReason),
    /// Final in another way, without a PIN to print: it was voided, or its seller is lost and another one settled it.
    Final(SaleId, SequenceState),
    /// No answer yet: repeat or void it.
    Unresolved(SaleId, Option<LaterReason>),
}

/// Why an operation did not end. Unless it says otherwise, what is unresolved stays saved and can be asked again.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The terminal's own storage failed; nothing was sent that is not saved.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No seller could be reached in time.
    #[error("no seller answers: {0}")]
    Unreachable(io::Error),
    /// No answer in time.
    #[error("no answer in time")]
    Deadline,
    /// The seller refuses this terminal; asking again changes nothing.
    #[error("the seller refuses this terminal: {0:?}")]
    Rejected(ErrorCode),
    /// The seller broke the protocol.
    #[error("the seller broke the protocol: {0}")]
    Peer(SessionError),
    /// The seller sent a reply that does not answer the request.
    #[error("the seller's reply does not answer the request")]
    WrongReply,
    /// The question was wrong.
    #[error("sequence {sequence} refused: {reason:?}")]
    Refused {
        /// The sequence.
        sequence: u64,
        /// Why.
        reason: RefuseReason,
    },
    /// The seller asks to wait, for longer than there is time.
    #[error("the seller says later: {0:?}")]
    Later(LaterReason),
    /// The sale belongs to another seller than the one that is connected, which cannot ask it now.
    #[error("the sale belongs to seller {}, which seller {} cannot ask now", .sale.0, .connected.0)]
    OtherSeller {
        /// The sale's.
        sale: SellerId,
        /// The connection's.
        connected: SellerId,
    },
    /// As many sales are unresolved as a login can carry: repeat, confirm or void one first.
    #[error("{UNRESOLVED_MAX} sales are unresolved: repeat, confirm or void one first")]
    TooManyUnresolved,
}

/// A blocking terminal.
pub struct Client<S> {
    config: Config,
    store: S,
    state: TerminalState,
    dropped: Vec<Sale>,
    settled: Vec<(Sale, Outcome)>,
    random: SystemRandom,
    link: Option<Link>,
    /// A connection without a session, and where it leads: it is for the next hello.
    kept: Option<(SocketAddr, Incoming)>,
    /// Told by a welcome or a bye since the start; tried before the configured ones.
    learned: Vec<SocketAddr>,
    attempts: usize,
    back_off: (Duration, Duration),
    connect_after: Instant,
}

impl<S: Store> Client<S> {
    /// Takes up what the store holds; connects with the first operation.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn new(config: Config, mut store: S) -> Result<Self, ClientError> {
        let mut state = store.load()?.unwrap_or_default();
        let mut dropped = Vec::new();
        if state.key_epoch != config.key_epoch {
            dropped = core::mem::take(&mut state.sales);
            state.key_epoch = config.key_epoch;
            store.save(&state)?;
        }
        Ok(Self {
            config,
            store,
            state,
            dropped,
            settled: Vec::new(),
            random: SystemRandom::new(),
            link: None,
            kept: None,
            learned: Vec::new(),
            attempts: 0,
            back_off: (Duration::from_millis(200), Duration::from_secs(10)),
            connect_after: Instant::now(),
        })
    }

    /// The sales that are not known to be final.
    #[must_use]
    pub fn unresolved(&self) -> &[Sale] {
        &self.state.sales
    }

    /// Unresolved sales of an earlier key epoch, which only the operator can settle.
    #[must_use]
    pub fn dropped(&self) -> &[Sale] {
        &self.dropped
    }

    /// Sales that a login found to be final, since the last call.
    pub fn take_settled(&mut self) -> Vec<(Sale, Outcome)> {
        core::mem::take(&mut self.settled)
    }

    /// Connects and logs in, unless that is done; returns what the seller said of itself.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::Rejected`], [`ClientError::Peer`], [`ClientError::Store`].
    pub fn connect(&mut self, time: Duration) -> Result<Welcome, ClientError> {
        self.link(Instant::now() + time).map(|link| link.welcome)
    }

    /// Buys one PIN.
    ///
    /// # Errors
    /// Before anything was sold: every [`ClientError`]. When the answer does not come in `time` it is no error but
    /// [`Vended::Unresolved`].
    pub fn vend(&mut self, product: u32, face_value: u64, time: Duration) -> Result<Vended, ClientError> {
        let until = Instant::now() + time;
        if self.state.sales.len() >= UNRESOLVED_MAX {
            self.settle(time)?;
        }
        let link = self.link(until)?;
        let id = SaleId { seller: link.welcome.seller, sequence: link.next_sequence };
        if self.state.sales.len() >= UNRESOLVED_MAX {
            return Err(ClientError::TooManyUnresolved);
        }
        let sale = Sale { id, product, face_value, state: SaleState::Asked };
        self.state.sales.push(sale);
        self.store.save(&self.state)?;
        if let Some(link) = &mut self.link {
            link.next_sequence = id.sequence + 1;
        }
        self.ask(sale, Attempt::First, until)
    }

    /// Asks again for an unresolved sale.
    ///
    /// # Errors
    /// Every [`ClientError`]; [`ClientError::Refused`] with `NothingSold` if no such sale is unresolved.
    pub fn repeat(&mut self, id: SaleId, time: Duration) -> Result<Vended, ClientError> {
        let until = Instant::now() + time;
        let sale = self.state.sales.iter().find(|sale| sale.id == id).copied();
        let unknown = ClientError::Refused { sequence: id.sequence, reason: RefuseReason::NothingSold };
        self.ask(sale.ok_or(unknown)?, Attempt::Repeat, until)
    }

    /// Notes that the PIN was printed and tells the seller; `None` if the seller could not be told in `time`: a later
    /// vend, confirm or login does.
    ///
    /// # Errors
    /// [`ClientError::Store`], [`ClientError::Refused`], [`ClientError::Rejected`], [`ClientError::WrongReply`].
    pub fn confirm(&mut self, id: SaleId, time: Duration) -> Result<Option<SequenceState>, ClientError> {
        self.mark(id, SaleState::Printed)?;
        self.tell(id, SaleState::Printed, Instant::now() + time)
    }

    /// Notes that nothing was handed out and tells the seller; `None` if the seller could not be told in `time`: a
    /// later void or login does. The state may be `Confirmed` if that came first.
    ///
    /// # Errors
    /// [`ClientError::Store`], [`ClientError::Refused`], [`ClientError::Rejected`], [`ClientError::WrongReply`].
    pub fn void(&mut self, id: SaleId, time: Duration) -> Result<Option<SequenceState>, ClientError> {
        self.mark(id, SaleState::Abandoned)?;
        self.tell(id, SaleState::Abandoned, Instant::now() + time)
    }

    /// Tells the connected seller of everything printed or abandoned that it may not know.
    ///
    /// # Errors
    /// As [`Client::confirm`].
    pub fn settle(&mut self, time: Duration) -> Result<(), ClientError> {
        let until = Instant::now() + time;
        let pending = self.state.sales.clone();
        for sale in pending.iter().filter(|sale| sale.state != SaleState::Asked) {
            self.tell(sale.id, sale.state, until)?;
        }
        Ok(())
    }

    /// Where a sequence of the connected seller stands, and the sale's reference.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub fn status(&mut self, id: SaleId, time: Duration) -> Result<(SequenceState, u64), ClientError> {
        let until = Instant::now() + time;
        match self.exchange(Some(id), &Request::Status { sequence: id.sequence }, until)? {
            Reply::State { sequence, state, reference } if sequence == id.sequence => {
                if state.is_final() {
                    self.forget(id)?;
                }
                Ok((state, reference))
            }
            other => Err(other_answer(&other)),
        }
    }

    /// The PIN of a sold sequence once more.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub fn reprint(&mut self, id: SaleId, time: Duration) -> Result<Sold, ClientError> {
        let until = Instant::now() + time;
        match self.exchange(Some(id), &Request::Reprint { sequence: id.sequence }, until)? {
            Reply::Sold(sold) if sold.sequence == id.sequence => Ok(sold),
            other => Err(other_answer(&other)),
        }
    }

    /// The whole catalogue. Starts over if it changes between two pages.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub fn catalogue(&mut self, time: Duration) -> Result<Vec<CatalogueEntry>, ClientError> {
        let until = Instant::now() + time;
        let (mut entries, mut version) = (Vec::new(), None);
        loop {
            let from = u16::try_from(entries.len()).map_err(|_| ClientError::WrongReply)?;
            let page = match self.exchange(None, &Request::Catalogue { from }, until)? {
                Reply::Catalogue(page) if page.from == from => page,
                other => return Err(other_answer(&other)),
            };
            if version.is_some_and(|version| version != page.version) {
                (entries, version) = (Vec::new(), None);
                continue;
            }
            version = Some(page.version);
            entries.extend_from_slice(page.list());
            if entries.len() >= usize::from(page.total) {
                return Ok(entries);
            }
            if page.count == 0 {
                return Err(ClientError::WrongReply);
            }
        }
    }

    /// Keeps an idle connection open; call it at least as often as the welcome asks. Does nothing when unconnected.
    pub fn ping(&mut self) {
        let until = Instant::now() + self.config.reply_timeout;
        if self.link.as_mut().is_some_and(|link| link.connection.ping(until).is_err()) {
            self.link = None;
        }
    }

    /// Ends the connection, if there is one, in good order.
    pub fn close(&mut self) {
        self.kept = None;
        if let Some(link) = self.link.take() {
            link.connection.close();
        }
    }

    /// Vends one saved sale until it has an answer or the time is over.
    fn ask(&mut self, sale: Sale, mut attempt: Attempt, until: Instant) -> Result<Vended, ClientError> {
        let Sale { id, product, face_value, .. } = sale;
        let mut reason = None;
        loop {
            let deadline = until.saturating_duration_since(Instant::now()).min(self.config.reply_timeout);
            let request = Request::Vend(Vend {
                attempt,
                sequence: id.sequence,
                product,
                face_value,
                // A little less, so that the seller's last word arrives before the wait for it ends.
                deadline_ms: u32::try_from(deadline.as_millis() * 4 / 5).unwrap_or(u32::MAX),
                confirmed: self.printed_before(id),
            });
            match self.exchange_once(Some(id), &request, until) {
                Ok(Reply::Sold(sold)) if sold.sequence == id.sequence => return Ok(Vended::Sold(id, sold)),
                Ok(Reply::Declined { sequence, reason }) if sequence == id.sequence => {
                    self.forget(id)?;
                    return Ok(Vended::Declined(id, reason));
                }
                Ok(Reply::Later { sequence, reason: why, wait_ms, .. }) if sequence == id.sequence => {
                    reason = Some(why);
                    self.pause(Duration::from_millis(wait_ms.max(LATER_MS_MIN).into()), until);
                }
                Ok(Reply::Refused { sequence, reason }) if sequence == id.sequence => {
                    return self.vend_refused(id, reason);
                }
                Ok(Reply::State { sequence, state, .. }) if sequence == id.sequence && state.is_final() => {
                    self.forget(id)?;
                    return Ok(Vended::Final(id, state));
                }
                Ok(other) => return Err(other_answer(&other)),
                Err(ClientError::OtherSeller { .. }) => {
                    let settled = self.settled.iter().find(|(sale, _)| sale.id == id);
                    let outcome = settled.map(|(_, outcome)| Vended::Final(id, outcome.state));
                    return Ok(outcome.unwrap_or(Vended::Unresolved(id, reason)));
                }
                Err(ClientError::Unreachable(_) | ClientError::Deadline) => {}
                Err(error) => return Err(error),
            }
            attempt = Attempt::Repeat;
            if Instant::now() >= until {
                return Ok(Vended::Unresolved(id, reason));
            }
        }
    }

    /// A refusal changes nothing at the seller; what it means for what is saved depends on the reason.
    fn vend_refused(&mut self, id: SaleId, reason: RefuseReason) -> Result<Vended, ClientError> {
        if matches!(reason, RefuseReason::SequenceUsed | RefuseReason::WindowFull) {
            // The sequence was not this sale's. The next login tells which numbers are free.
            self.forget(id)?;
            self.close();
        }
        Err(ClientError::Refused { sequence: id.sequence, reason })
    }

    /// Bit `i`: sequence `id.sequence - 1 - i` of the same seller was printed.
    fn printed_before(&self, id: SaleId) -> u64 {
        let printed = |sale: &&Sale| sale.state == SaleState::Printed && sale.id.seller == id.seller;
        let distances = self.state.sales.iter().filter(printed).filter_map(|sale| {
            let distance = id.sequence.checked_sub(sale.id.sequence)?.checked_sub(1)?;
            (distance < WINDOW).then_some(distance)
        });
        distances.fold(0, |bits, distance| bits | 1 << distance)
    }

    /// Tells the seller of one printed or abandoned sale.
    fn tell(
        &mut self,
        id: SaleId,
        what: SaleState,
        until: Instant,
    ) -> Result<Option<SequenceState>, ClientError> {
        let request = match what {
            SaleState::Printed => Request::Confirm { sequence: id.sequence },
            SaleState::Abandoned => Request::Void { sequence: id.sequence },
            SaleState::Asked => return Ok(None),
        };
        match self.exchange(Some(id), &request, until) {
            Ok(Reply::State { sequence, state, .. }) if sequence == id.sequence => {
                if state.is_final() {
                    self.forget(id)?;
                }
                Ok(Some(state))
            }
            Ok(Reply::Refused { sequence, reason: RefuseReason::WindowFull }) if sequence == id.sequence => {
                // Too far above the window to be blocked, so it was never sold, and this terminal will not ask for it.
                self.forget(id)?;
                Ok(Some(SequenceState::Open))
            }
            Ok(other) => Err(other_answer(&other)),
            Err(
                ClientError::OtherSeller { .. }
                | ClientError::Unreachable(_)
                | ClientError::Deadline
                | ClientError::Later(_),
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks, on new connections if need be, until there is an answer other than `later`.
    fn exchange(
        &mut self,
        id: Option<SaleId>,
        request: &Request,
        until: Instant,
    ) -> Result<Reply, ClientError> {
        loop {
            let error = match self.exchange_once(id, request, until) {
                Ok(Reply::Later { reason, wait_ms, .. }) => {
                    self.pause(Duration::from_millis(wait_ms.max(LATER_MS_MIN).into()), until);
                    ClientError::Later(reason)
                }
                Err(error @ (ClientError::Unreachable(_) | ClientError::Deadline)) => error,
                done => return done,
            };
            if Instant::now() >= until {
                return Err(error);
            }
        }
    }

    fn mark(&mut self, id: SaleId, state: SaleState) -> Result<(), ClientError> {
        if let Some(sale) = self.state.sales.iter_mut().find(|sale| sale.id == id) {
            sale.state = state;
            self.store.save(&self.state)?;
        }
        Ok(())
    }

    fn forget(&mut self, id: SaleId) -> Result<(), ClientError> {
        let before = self.state.sales.len();
        self.state.sales.retain(|sale| sale.id != id);
        if self.state.sales.len() < before {
            self.store.save(&self.state)?;
        }
        Ok(())
    }
}

fn other_answer(reply: &Reply) -> ClientError {
    match *reply {
        Reply::Refused { sequence, reason } => ClientError::Refused { sequence, reason },
        Reply::Later { reason, .. } => ClientError::Later(reason),
        _ => ClientError::WrongReply,
    }
}

/// Shortest wait after a `later`, in milliseconds, whatever the seller says.
const LATER_MS_MIN: u32 = 20;
