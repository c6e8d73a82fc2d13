//! A worker: the home of some terminals, from their handshake to their last reply.
//!
//! Each turn: let go what has become durable and write it, take in messages and new connections, read what is ready and ask
//! the seller, hand the records over, let go and write what depends on none of them.

use super::carriers::Carriers;
use super::front::{Arrival, FrontHandle, Shaken};
use super::link::{CarryTo, CarryingArrival};
use super::meddler::Meddler;
use super::reading::Received;
use super::session::{Line, Phase, Session};
use super::sessions::Sessions;
use super::settling::Abroad;
use super::stats::{Stats, count};
use super::{Clock, WAKE, Waker, home, wait};
use crate::commit::{RecordSender, Wake};
use crate::ids::VarietyId;
use crate::ledger::Outcome;
use crate::limits::{
    ARRIVALS_MAX, CARRIERS_ARRIVING_MAX, IDLE_MS_MAX, LINGER_MS_MAX, LOGIN_MS_MAX, LOOKUPS_MAX,
    OUTBOX_BYTES_MAX, READ_BYTES_MAX, RECORDS_PER_REQUEST_MAX, REST_MS, SESSION_WAITING_BYTES_MAX,
    STALL_MS_MAX, STOP_MS_MAX, WAIT_MS, WORKER_MESSAGES_MAX,
};
use crate::link::{Asked, Told};
use crate::pool::Range;
use crate::registry::{Registry, State};
use crate::seller::{AskedHere, Asker, Lookup, SaleTally, Sealed, Seller, Service};
use crate::time::Now;
use crossbeam::channel::{Receiver, Sender, bounded};
use crossbeam::queue::{ArrayQueue, SegQueue};
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use wire::control::{ByeReason, CONTROL_BYTES_MAX, ErrorCode, encode_pong};
use wire::frame::{FRAME_BYTES_MAX, HEADER_BYTES};
use wire::message::{Addresses, Reply, Request};
use wire::session::Inbound;

/// What the rest of the node tells a worker.
pub enum WorkerMessage<S> {
    /// A range for its lane.
    Range(Arc<Range<S>>),
    /// The network has no PIN of this variety.
    OutOfStock(VarietyId),
    /// A registry that is in force from now on.
    Registry(Arc<Registry>),
    /// What terminals may have of the node from now on.
    Service(Service),
    /// What the history says.
    Found(Lookup, Option<Outcome>),
    /// A terminal of another seller asks about a sequence of this one: the hub's question.
    Asked(u64, Asked),
    /// What another seller says of a sequence of its: this worker's question.
    Told(u64, Told),
    /// Finish what is in flight, send the terminals away and end.
    Stop,
}

/// Reaches a worker from any thread.
pub struct WorkerHandle<S> {
    pub(super) arrivals: Arc<ArrayQueue<Arrival>>,
    /// Handshakes of carried terminals; as many as the worker has asked for.
    pub(super) shaken: Arc<SegQueue<Shaken>>,
    carriers: Arc<ArrayQueue<Box<CarryingArrival>>>,
    messages: Sender<WorkerMessage<S>>,
    waker: Waker,
}

impl<S> WorkerHandle<S> {
    /// Tells the worker; blocks while too much is on its way to it. A worker that has ended hears nothing.
    pub fn send(&self, message: WorkerMessage<S>) {
        if self.messages.send(message).is_ok() {
            self.waker.wake();
        }
    }
}

impl<S> Clone for WorkerHandle<S> {
    fn clone(&self) -> Self {
        let Self { arrivals, shaken, carriers, messages, waker } = self;
        let (arrivals, shaken, carriers) = (arrivals.clone(), shaken.clone(), carriers.clone());
        Self { arrivals, shaken, carriers, messages: messages.clone(), waker: waker.clone() }
    }
}

impl<S: Send + Sync + 'static> Wake for WorkerHandle<S> {
    fn wake(&self) {
        self.waker.wake();
    }
}

/// Takes managers' connections to the workers that they call.
pub fn carry_to<S: Send + Sync + 'static>(workers: Vec<WorkerHandle<S>>) -> CarryTo {
    Box::new(move |arrival| {
        let Some(worker) = workers.get(arrival.worker()) else { return Err(arrival) };
        worker.carriers.push(arrival)?;
        worker.waker.wake();
        Ok(())
    })
}

/// Where a worker listens, made before the worker, because its records need somebody to wake.
pub struct WorkerPort<S> {
    pub(super) poll: Poll,
    arrivals: Arc<ArrayQueue<Arrival>>,
    pub(super) shaken: Arc<SegQueue<Shaken>>,
    pub(super) carriers: Arc<ArrayQueue<Box<CarryingArrival>>>,
    messages: Receiver<WorkerMessage<S>>,
}

impl<S> WorkerPort<S> {
    /// A port and the way to it.
    ///
    /// # Errors
    /// The system has no more of what polling needs.
    pub fn new() -> io::Result<(Self, WorkerHandle<S>)> {
        let poll = Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKE)?));
        let arrivals = Arc::new(ArrayQueue::new(ARRIVALS_MAX));
        let (sender, messages) = bounded(WORKER_MESSAGES_MAX);
        let (shaken, carriers) = (Arc::default(), Arc::new(ArrayQueue::new(CARRIERS_ARRIVING_MAX)));
        let port = Self { poll, arrivals, shaken, carriers, messages };
        let handle = WorkerHandle {
            arrivals: Arc::clone(&port.arrivals),
            shaken: Arc::clone(&port.shaken),
            carriers: Arc::clone(&port.carriers),
            messages: sender,
            waker,
        };
        Ok((port, handle))
    }
}

/// Where a worker's own messages go. A full channel never holds it up.
#[derive(Clone)]
pub struct Reports {
    /// The worker's number, given with everything it says.
    pub worker: usize,
    /// A vend waits for a PIN of this variety.
    pub dry: Sender<(usize, VarietyId)>,
    /// Questions for the history.
    pub lookups: Sender<(usize, Lookup)>,
    /// What is said to other sellers.
    pub abroad: Sender<Abroad>,
}

/// Sells to its terminals. [`Worker::run`] is its thread.
pub struct Worker<S, M> {
    pub(super) port: WorkerPort<S>,
    pub(super) seller: Seller<S>,
    pub(super) sender: RecordSender,
    pub(super) sessions: Sessions<M>,
    pub(super) carriers: Carriers,
    pub(super) asked_here: AskedHere,
    /// Handshakes that the front is working out.
    pub(super) shaking: usize,
    pub(super) front: FrontHandle,
    /// Where else terminals with connections of their own may connect.
    others: Addresses,
    /// Between how many workers the terminals are spread.
    pub(super) workers: usize,
    pub(super) reports: Reports,
    /// Questions for the history, which may be asked when so many records are durable.
    lookups: VecDeque<(u64, Lookup)>,
    pub(super) stats: Arc<Stats>,
    /// What of this worker is in the counters: requests that wait, and sales.
    counted: (u64, SaleTally),
    clock: Clock,
    pub(super) buffer: Box<[u8]>,
    /// The batch of carried frames that is being taken in.
    pub(super) batch: Vec<u8>,
    /// Records that could be handed over when this turn began: by now at least as many less those made since.
    room: usize,
    /// The slot that is looked at next for what is overdue.
    sweep_at: usize,
    sweep_due_ms: u64,
    pub(super) stop_by_ms: Option<u64>,
}

impl<S: Sealed, M: Meddler> Worker<S, M> {
    /// A worker without sessions, one of `workers`. `sender` wakes `port`; `front` works out the handshakes of carried
    /// terminals; `others` are said to terminals with connections of their own; `meddler` is [`Honest`](super::Honest) but in tests.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "one owner hands it everything once")]
    pub fn new(
        port: WorkerPort<S>,
        seller: Seller<S>,
        sender: RecordSender,
        reports: Reports,
        front: FrontHandle,
        others: Addresses,
        workers: usize,
        stats: Arc<Stats>,
        clock: Clock,
        meddler: M,
    ) -> Self {
        Self {
            port,
            seller,
            sender,
            sessions: Sessions::new(Arc::clone(&stats), meddler),
            carriers: Carriers::default(),
            asked_here: AskedHere::default(),
            shaking: 0,
            front,
            others,
            workers,
            reports,
            lookups: VecDeque::new(),
            stats,
            counted: (0, SaleTally::default()),
            clock,
            buffer: vec![0; BUFFER_BYTES].into(),
            batch: Vec::new(),
            room: 0,
            sweep_at: 0,
            sweep_due_ms: 0,
            stop_by_ms: None,
        }
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// The system cannot poll.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let most = self.timeout();
            wait(&mut self.port.poll, &mut events, most)?;
            for event in events.iter().filter(|event| event.token() != WAKE) {
                if event.token().0 >= CARRIERS {
                    self.carriers.handle_event(event.token().0 - CARRIERS, event);
                    continue;
                }
                let Some(key) = self.sessions.key_at(event.token().0) else { continue };
                let Some(session) = self.sessions.session(key) else { continue };
                // Nearly every event says that it is writable.
                let may_write = event.is_writable() && session.has_unsent();
                if event.is_readable() {
                    session.readable = true;
                    session.ended |= event.is_read_closed();
                    self.sessions.list(key);
                }
                if may_write {
                    self.sessions.touch(key);
                }
            }
            let now = (self.clock)();
            self.turn(&now);
            if self.stop_by_ms.is_some_and(|by_ms| self.has_stopped(by_ms, &now)) {
                return Ok(());
            }
        }
    }

    fn timeout(&self) -> Duration {
        if (self.sessions.ready() > 0 || self.carriers.is_pressing()) && self.may_read() {
            return Duration::ZERO;
        }
        let now_ms = (self.clock)().monotonic_ms;
        let due_ms = self.seller.next_timeout().map_or(u64::MAX, |due_ms| due_ms.saturating_sub(now_ms));
        Duration::from_millis(due_ms.min(SWEEP_MS))
    }

    fn turn(&mut self, now: &Now) {
        self.room = self.sender.room();
        self.sessions.release(self.sender.durable());
        // Before anything else, so that terminals ask again while this turn works.
        self.flush(now);
        self.take_messages(now);
        self.take_arrivals(now);
        self.take_carriers(now);
        self.read_carriers(now);
        self.read_ready(now);
        if self.seller.next_timeout().is_some_and(|due_ms| due_ms <= now.monotonic_ms) {
            self.seller.handle_timeout(now, &mut self.sessions);
        }
        self.take_answers(now);
        self.hand_over();
        self.sessions.outbox.seal(self.seller.made());
        self.report();
        self.sessions.release(self.sender.durable());
        self.flush(now);
        self.count();
        self.sweep(now);
    }

    /// Brings the counters up to date, which all workers share.
    fn count(&mut self) {
        let (waiting, tally) = self.counted;
        let now = ((self.seller.waiting() + self.sessions.outbox.waiting()) as u64, self.seller.tally());
        if now == self.counted {
            return;
        }
        self.counted = now;
        let Stats { in_flight, sales, sales_waited, .. } = &*self.stats;
        // Each adds the difference of its own share, which may be less than nothing.
        in_flight.fetch_add(now.0.wrapping_sub(waiting), Relaxed);
        sales.fetch_add(now.1.sold - tally.sold, Relaxed);
        sales_waited.fetch_add(now.1.waited - tally.waited, Relaxed);
    }

    fn take_messages(&mut self, now: &Now) {
        let version = self.seller.registry().version();
        let mut questions = Vec::new();
        for message in self.port.messages.try_iter() {
            let (seller, sessions) = (&mut self.seller, &mut self.sessions);
            match message {
                WorkerMessage::Range(range) => seller.handle_range(range, now, sessions),
                WorkerMessage::OutOfStock(variety) => seller.handle_out_of_stock(variety, now, sessions),
                WorkerMessage::Registry(registry) => {
                    seller.handle_registry(registry);
                    for at in 0..sessions.slots() {
                        if let Some(key) = sessions.key_at(at) {
                            recheck(key, seller, sessions, now);
                        }
                    }
                }
                WorkerMessage::Service(service) => seller.handle_service(service, sessions),
                WorkerMessage::Found(lookup, outcome) => {
                    seller.handle_found(&lookup, outcome, now, sessions);
                }
                WorkerMessage::Asked(question, asked) => questions.push((question, asked)),
                WorkerMessage::Told(number, told) => seller.handle_told(number, &told, sessions),
                WorkerMessage::Stop => {
                    seller.handle_stop(sessions);
                    self.stop_by_ms = Some(now.monotonic_ms + STOP_MS_MAX);
                }
            }
        }
        for (question, asked) in questions {
            self.take_asked(question, asked, now);
        }
        if self.seller.registry().version() != version {
            self.recheck_carriers(now);
        }
    }

    fn take_arrivals(&mut self, now: &Now) {
        while let Some(arrival) = self.port.arrivals.pop() {
            let Arrival { mut stream, session, unread, seat } = arrival;
            let token = Token(self.sessions.next_slot());
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self.port.poll.registry().register(&mut stream, token, interest) {
                tracing::warn!("a connection is lost: {error}");
                continue;
            }
            let line = Line::Socket(stream, seat);
            let key = self.sessions.insert(Session::new(line, session, unread, now.monotonic_ms));
            if self.stop_by_ms.is_some() {
                self.sessions.dismiss(key, ByeReason::Stopping, WAIT_MS, now.monotonic_ms);
                continue;
            }
            self.welcome(key, now);
        }
    }

    pub(super) fn welcome(&mut self, key: u64, now: &Now) {
        if recheck(key, &mut self.seller, &mut self.sessions, now)
            && let Some(session) = self.sessions.session(key)
        {
            let terminal = session.wire.terminal();
            let mut welcome = self.seller.welcome(terminal, session.wire.key_epoch());
            let others = match session.carrier() {
                None => self.others,
                Some((carrier, _)) => {
                    self.carriers.get(carrier).map_or_else(Addresses::default, |carrier| carrier.others)
                }
            };
            // When this address fails, its terminals spread over the others.
            welcome.addresses = others.turned(home(terminal, usize::from(u16::MAX)));
            self.sessions.send(key, 0, &Reply::Welcome(Box::new(welcome)));
            self.sessions.list(key);
        }
    }

    /// Whether there is room for the records and replies of one more request.
    pub(super) fn has_room(&self) -> bool {
        self.stop_by_ms.is_none()
            && self.room.saturating_sub(RECORDS_PER_REQUEST_MAX) > self.unpushed()
            && self.sessions.outbox.waiting_bytes() < OUTBOX_BYTES_MAX
    }

    /// Whether sessions are read: to take requests, or, when stopping, to hear that last words have arrived.
    fn may_read(&self) -> bool {
        self.has_room() || self.stop_by_ms.is_some()
    }

    fn unpushed(&self) -> usize {
        usize::try_from(self.seller.made() - self.sender.submitted()).expect("records fit in memory")
    }

    fn read_ready(&mut self, now: &Now) {
        for _ in 0..self.sessions.ready() {
            if !self.may_read() {
                return;
            }
            let Some(key) = self.sessions.poll_ready() else { return };
            self.read_one(key, now);
        }
    }

    fn read_one(&mut self, key: u64, now: &Now) {
        let Some(session) = self.sessions.session(key) else { return };
        // What the terminal does not read it does not get more of: it is listed again when it has.
        let must_wait = session.has_unsent() || session.waiting_bytes > SESSION_WAITING_BYTES_MAX;
        if session.phase != Phase::Closing && (must_wait || self.stop_by_ms.is_some()) {
            return;
        }
        if session.carrier().is_some() {
            return self.take_carried(key, now);
        }
        let held = session.input.len();
        self.buffer[..held].copy_from_slice(&session.input);
        session.input.clear();
        let mut end = held;
        if held < READ_BYTES_MAX {
            match session.read(&mut self.buffer[held..held + READ_BYTES_MAX]) {
                Received::Bytes(bytes) => end += bytes,
                Received::Nothing => {}
                Received::End => return self.close(key),
            }
        }
        let heard = end > held;
        if session.phase == Phase::Closing {
            if session.readable {
                self.sessions.list(key);
            }
            return;
        }
        if heard {
            session.heard_ms = now.monotonic_ms;
        }
        let taken = self.take_frames(key, end, now);
        let has_room = self.has_room();
        let Some(session) = self.sessions.session(key) else { return };
        if session.phase == Phase::Closing {
            return self.sessions.list(key);
        }
        session.input.extend_from_slice(&self.buffer[taken..end]);
        if session.readable || !has_room || session.input.len() >= FRAME_BYTES_MAX {
            self.sessions.list(key);
        }
    }

    /// Takes frames from the front of the buffer, as far as there is room; returns how many bytes it took.
    pub(super) fn take_frames(&mut self, key: u64, end: usize, now: &Now) -> usize {
        let mut at = 0;
        while at + HEADER_BYTES <= end && self.has_room() {
            let Some(session) = self.sessions.session(key) else { break };
            if session.phase == Phase::Closing || session.waiting_bytes > SESSION_WAITING_BYTES_MAX {
                break;
            }
            let asker = Asker {
                session: key,
                terminal: session.wire.terminal(),
                key_epoch: session.wire.key_epoch(),
                dealer: session.dealer,
                correlation: 0,
            };
            let received = session.wire.receive(&mut self.buffer[at..end]);
            match received {
                Ok(None) => break,
                Ok(Some((length, inbound))) => {
                    at += length;
                    match inbound {
                        Inbound::Request { correlation, request } => {
                            let asker = Asker { correlation, ..asker };
                            self.take_request(key, &asker, &request, now);
                        }
                        Inbound::Ping { correlation } => {
                            let mut pong = [0; CONTROL_BYTES_MAX];
                            let length = encode_pong(correlation, &mut pong);
                            session.put(&pong[..length]);
                            self.sessions.touch(key);
                        }
                        Inbound::Pong { .. } => {}
                        Inbound::Bye(_) | Inbound::Error(_) => {
                            self.close(key);
                            break;
                        }
                    }
                }
                Err(error) => {
                    let terminal = session.terminal().0;
                    tracing::debug!(terminal, "session ended: {error}");
                    self.end(key);
                    self.sessions.fault(key, error.code(), now.monotonic_ms);
                    break;
                }
            }
        }
        at
    }

    fn take_request(&mut self, key: u64, asker: &Asker, request: &Request, now: &Now) {
        count(&self.stats.requests);
        if matches!(request, Request::Login(_))
            && let Some(earlier) = self.sessions.log_in(key).filter(|earlier| *earlier != key)
        {
            self.end(earlier);
            self.sessions.dismiss(earlier, ByeReason::Replaced, 0, now.monotonic_ms);
        }
        self.seller.handle_request(asker, request, now, &mut self.sessions);
        self.take_lookups();
    }

    pub(super) fn take_lookups(&mut self) {
        while let Some(lookup) = self.seller.poll_lookup() {
            if self.lookups.len() >= LOOKUPS_MAX {
                self.seller.handle_unasked(&lookup, &mut self.sessions);
                continue;
            }
            // What is asked about may have been decided a moment ago: the history must have seen that.
            self.lookups.push_back((self.seller.made(), lookup));
        }
    }

    /// Takes the records to the journal's queue, as far as there is room; the rest follows when it has been emptied.
    fn hand_over(&mut self) {
        let room = self.sender.room();
        let records = self.seller.records();
        let fit = records.len().min(room);
        for mut record in records.drain(..fit) {
            self.sessions.meddler.record(&mut record);
            self.sender.push(record);
        }
        self.sender.submit();
        self.room = self.sender.room();
    }

    /// Tells the others what the seller needs of them.
    fn report(&mut self) {
        self.send_abroad();
        let worker = self.reports.worker;
        while let Some(variety) = self.seller.poll_dry() {
            // When it does not fit, the vend waits in vain, its terminal asks again, and so does this worker.
            let _ = self.reports.dry.try_send((worker, variety));
        }
        let durable = self.sender.durable();
        while let Some(&(made, lookup)) = self.lookups.front()
            && made <= durable
        {
            self.lookups.pop_front();
            if self.reports.lookups.try_send((worker, lookup)).is_err() {
                self.seller.handle_unasked(&lookup, &mut self.sessions);
                self.sessions.outbox.seal(self.seller.made());
            }
        }
    }

    fn flush(&mut self, now: &Now) {
        while let Some(key) = self.sessions.poll_touched() {
            let Some(session) = self.sessions.session(key) else { continue };
            if let Some((carrier, number)) = session.carrier() {
                session.take_output(|frames| self.carriers.put(carrier, number, frames));
                if session.phase == Phase::Closing {
                    self.close(key);
                    continue;
                }
            }
            if session.flush(now.monotonic_ms).is_err() {
                self.close(key);
                continue;
            }
            let wants_reading = session.readable || session.input.len() >= HEADER_BYTES;
            if wants_reading && !session.has_unsent() {
                self.sessions.list(key);
            }
        }
        for (carrier, fault) in self.carriers.flush(now.monotonic_ms) {
            self.end_carrier(carrier, &fault, now);
        }
    }

    /// Ends what is overdue, a part of the sessions at a time.
    fn sweep(&mut self, now: &Now) {
        if now.monotonic_ms < self.sweep_due_ms {
            return;
        }
        self.sweep_due_ms = now.monotonic_ms + SWEEP_MS;
        self.sweep_carriers(now);
        let slots = self.sessions.slots();
        for _ in 0..slots.div_ceil(SWEEPS_PER_ROUND) {
            self.sweep_at = (self.sweep_at + 1) % slots;
            let Some(key) = self.sessions.key_at(self.sweep_at) else { continue };
            let Some(session) = self.sessions.session(key) else { continue };
            let silent_ms = now.monotonic_ms.saturating_sub(session.heard_ms);
            let is_stalled = session
                .stalled_since_ms
                .is_some_and(|since_ms| now.monotonic_ms.saturating_sub(since_ms) > STALL_MS_MAX);
            match session.phase {
                Phase::Closing if silent_ms > LINGER_MS_MAX => self.close(key),
                Phase::Closing => {}
                _ if is_stalled => {
                    count(&self.stats.faults);
                    self.close(key);
                }
                Phase::Welcomed if silent_ms > LOGIN_MS_MAX => {
                    self.sessions.fault(key, ErrorCode::Timeout, now.monotonic_ms);
                }
                // Whether a carried terminal is there its manager sees.
                Phase::LoggedIn if silent_ms > IDLE_MS_MAX && session.carrier().is_none() => {
                    self.end(key);
                    self.sessions.dismiss(key, ByeReason::Idle, 0, now.monotonic_ms);
                }
                Phase::LoggedIn if silent_ms > REST_MS => session.rest(),
                Phase::Welcomed | Phase::LoggedIn => session.shrink(),
            }
        }
        self.flush(now);
    }

    /// The seller forgets what a session waits for.
    pub(super) fn end(&mut self, key: u64) {
        self.seller.handle_closed(key);
    }

    pub(super) fn close(&mut self, key: u64) {
        self.end(key);
        if let Some((carrier, number)) = self.sessions.session(key).and_then(|session| session.carrier()) {
            self.carriers.finish(carrier, number);
        }
        self.sessions.remove(key);
    }

    /// Whether everything in flight is answered and everybody sent away, or time is up.
    fn has_stopped(&mut self, by_ms: u64, now: &Now) -> bool {
        let in_flight =
            self.sender.durable() < self.seller.made() || self.sessions.outbox.waiting_bytes() > 0;
        let time_is_up = now.monotonic_ms >= by_ms;
        if !in_flight || time_is_up {
            self.end_carriers(now);
            for at in 0..self.sessions.slots() {
                if let Some(key) = self.sessions.key_at(at) {
                    self.sessions.dismiss(key, ByeReason::Stopping, WAIT_MS, now.monotonic_ms);
                }
            }
            self.flush(now);
        }
        time_is_up || (!in_flight && self.sessions.is_empty())
    }
}

/// Compares a session with the registry in force: false if it had to go.
fn recheck<S: Sealed, M>(key: u64, seller: &mut Seller<S>, sessions: &mut Sessions<M>, now: &Now) -> bool {
    let Some(session) = sessions.session(key) else { return false };
    let terminal = seller.registry().terminal(session.terminal());
    let may_stay = terminal
        .filter(|terminal| terminal.key_epoch == session.wire.key_epoch() && terminal.state == State::Active);
    if let Some(terminal) = may_stay {
        session.dealer = terminal.dealer;
        return true;
    }
    seller.handle_closed(key);
    sessions.dismiss(key, ByeReason::Done, 0, now.monotonic_ms);
    false
}

/// What was held back, less than what is read at once, and what is read.
const BUFFER_BYTES: usize = 2 * READ_BYTES_MAX;
/// Events taken at once, and so sales handed over at once: few enough that what the system keeps of their sockets is still
/// in the processor's cache when they are read, and when their replies leave.
const EVENTS_MAX: usize = 256;
/// Tokens from here on are of managers' connections.
pub(super) const CARRIERS: usize = usize::MAX / 2;
/// How often a part of the sessions is looked at for what is overdue, in milliseconds.
const SWEEP_MS: u64 = 100;
/// How many such parts there are.
const SWEEPS_PER_ROUND: usize = 5;
