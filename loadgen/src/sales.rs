//! One terminal's sales at its seller, without I/O: what to ask next, what an answer means, what to repeat.

use crate::catalogue::choose;
use std::collections::VecDeque;
use wire::message::{
    Attempt, DeclineReason, LaterReason, Login, RefuseReason, Reply, Request, SellerId, SequenceState, Sold,
    TerminalId, UNRESOLVED_MAX, Vend, WINDOW, Welcome,
};

/// The sales of one terminal.
///
/// After each welcome call [`welcome`](Self::welcome) and send [`login`](Self::login); then send what
/// [`poll_due`](Self::poll_due) yields, and what [`begin`](Self::begin) yields as long as
/// [`can_begin`](Self::can_begin); give every reply to [`handle_reply`](Self::handle_reply). Times are nanoseconds of
/// the run.
#[derive(Debug)]
pub(crate) struct Sales {
    terminal: TerminalId,
    seller: Option<SellerId>,
    /// The lowest sequence that this terminal never used.
    next: u64,
    /// Sequences below this may have been sent by an earlier process.
    repeat_below: u64,
    /// The highest sequence with an answer.
    answered_top: u64,
    /// Bit `i`: sequence `next - 1 - i` was printed.
    printed: u64,
    /// Those of `printed` that went out on this connection.
    told: u64,
    /// Asked and without a final answer, in ascending order.
    flights: VecDeque<Flight>,
    /// Their seller was lost, and nobody will ever say what became of them.
    unsettled: Vec<u64>,
}

/// A sequence that was asked for and has no final answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) sequence: u64,
    pub(crate) purpose: Purpose,
    /// Index among the run's varieties.
    pub(crate) variety: u16,
    /// When it should have been sent first.
    pub(crate) intended_ns: u64,
    /// When it was sent first.
    pub(crate) first_ns: u64,
    /// When it was sent last.
    sent_ns: u64,
    /// When to send it again; [`AWAITED`] while an answer is awaited.
    due_ns: u64,
    /// Another seller was told to find out: if it was never sold, it will not be.
    abroad: bool,
}

/// What a sequence was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A sale of this run.
    Sale,
    /// A sale that an earlier process began.
    Resumed,
    /// Nobody here knows it: it must never be sold.
    Void,
}

/// What a reply meant.
#[derive(Debug)]
pub(crate) enum Meaning<'a> {
    /// A PIN for a sequence that was asked for.
    Sold(Flight, &'a Sold),
    /// A PIN for a sequence that had an answer already, or was never asked for.
    Unasked(&'a Sold),
    /// Final, no PIN.
    Declined(Flight, DeclineReason),
    /// Final, no PIN: it had not been sold when its terminal went to another seller.
    GivenUp,
    /// The sequence stays open and will be asked again.
    Later(LaterReason),
    /// The question was wrong.
    Refused(RefuseReason),
    /// A sequence's state, not of one in flight: answers a status or a confirm.
    State { sequence: u64, state: SequenceState, reference: u64 },
    /// A status or confirm is not answered: ask again after this many milliseconds.
    StateLater { sequence: u64, wait_ms: u32 },
    /// A status or confirm was refused.
    StateRefused { sequence: u64, reason: RefuseReason },
    /// Nothing that matters here.
    Nothing,
    /// The reply carries another correlation than its sequence's question.
    Misplaced { sequence: u64 },
}

/// The seller's welcome cannot be true.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FalseWelcome {
    /// It says never used of a sequence that it answered with something final.
    Forgot {
        /// The highest sequence it answered.
        answered: u64,
        /// The one it says is the lowest never used.
        next: u64,
    },
    /// Its window is none.
    Window,
}

impl Sales {
    pub(crate) fn new(terminal: TerminalId) -> Self {
        Self {
            terminal,
            seller: None,
            next: 1,
            repeat_below: 0,
            answered_top: 0,
            printed: 0,
            told: 0,
            flights: VecDeque::new(),
            unsettled: Vec::new(),
        }
    }

    /// Whose sequences these are, once it has said so.
    pub(crate) fn seller(&self) -> Option<SellerId> {
        self.seller
    }

    /// The lowest sequence never used.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Sequences without a known outcome.
    pub(crate) fn open(&self) -> impl Iterator<Item = u64> {
        self.settleable().chain(self.unsettled.iter().copied())
    }

    /// Those whose outcome can still be asked for.
    pub(crate) fn settleable(&self) -> impl Iterator<Item = u64> {
        self.flights.iter().filter(|flight| flight.purpose != Purpose::Void).map(|flight| flight.sequence)
    }

    /// The terminal is at another seller: this one's sequences are settled through that.
    pub(crate) fn handle_left(&mut self) {
        self.flights.iter_mut().for_each(|flight| flight.abroad = true);
    }

    /// Another seller says that a sequence ended without a PIN for this terminal; whether that was not known.
    pub(crate) fn end_abroad(&mut self, sequence: u64, is_unsettled: bool) -> bool {
        let landed = self.land_abroad(sequence).is_some();
        if landed && is_unsettled {
            self.unsettled.push(sequence);
        }
        landed
    }

    /// Its PIN has come through another seller.
    pub(crate) fn land_abroad(&mut self, sequence: u64) -> Option<Flight> {
        let at = self.flights.iter().position(|flight| flight.sequence == sequence)?;
        Some(self.land(at))
    }

    /// Takes in a welcome. `reserved_below` says what an earlier process may have used at this seller; `variety` is the
    /// index of what it asked for at a sequence.
    pub(crate) fn welcome(
        &mut self,
        welcome: &Welcome,
        reserved_below: u64,
        variety: impl Fn(u64) -> u16,
        now_ns: u64,
    ) -> Result<(), FalseWelcome> {
        let (base, next) = (welcome.window_base, welcome.next_sequence.max(1));
        if base > next || next - base > WINDOW {
            return Err(FalseWelcome::Window);
        }
        if self.seller.is_some() {
            debug_assert_eq!(self.seller, Some(welcome.seller), "each seller has sales of its own");
            if next <= self.answered_top {
                return Err(FalseWelcome::Forgot { answered: self.answered_top, next });
            }
            self.told = 0;
            for flight in &mut self.flights {
                flight.due_ns = now_ns;
            }
        } else {
            (self.seller, self.next, self.repeat_below) = (Some(welcome.seller), base.max(1), reserved_below);
        }
        // What the seller holds and this process did not ask for.
        while self.next < next {
            let purpose = if self.next < reserved_below { Purpose::Resumed } else { Purpose::Void };
            self.launch(purpose, variety(self.next), now_ns, now_ns);
        }
        Ok(())
    }

    /// The login for the welcome that came last: as many unresolved sequences as fit, those of other sellers first. The others are
    /// repeated or asked for anyway.
    pub(crate) fn login(&self, elsewhere: &[Self]) -> Login {
        let pairs = |sales: &'_ Self| {
            let seller = sales.seller;
            sales.settleable().filter_map(move |sequence| Some((seller?, sequence))).collect::<Vec<_>>()
        };
        let all = elsewhere.iter().chain([self]).flat_map(pairs);
        let mut login = Login::EMPTY;
        for (place, pair) in login.unresolved.iter_mut().zip(all).take(UNRESOLVED_MAX) {
            *place = pair;
            login.count += 1;
        }
        login
    }

    /// Whether another sale may begin: fewer than `window` in flight, and the seller's window will have room.
    pub(crate) fn can_begin(&self, window: usize) -> bool {
        self.flights.len() < window
            && self.flights.front().is_none_or(|oldest| self.next < oldest.sequence + WINDOW)
    }

    /// Begins the next sale. `varieties` are chosen among by terminal and sequence.
    pub(crate) fn begin(
        &mut self,
        varieties: usize,
        intended_ns: u64,
        now_ns: u64,
    ) -> (Attempt, u64, u16, u64) {
        let (sequence, confirmed) = (self.next, self.printed & !self.told);
        let variety = choose(varieties, self.terminal.0, sequence) as u16;
        self.told |= confirmed;
        self.launch(Purpose::Sale, variety, intended_ns, now_ns);
        if let Some(flight) = self.flights.back_mut() {
            flight.due_ns = AWAITED;
        }
        let attempt = if sequence < self.repeat_below { Attempt::Repeat } else { Attempt::First };
        (attempt, sequence, variety, confirmed)
    }

    /// The next question that has to be sent again, if one is due.
    pub(crate) fn poll_due(
        &mut self,
        now_ns: u64,
        vend: impl Fn(Attempt, u64, u16, u64) -> Vend,
    ) -> Option<Request> {
        let (next, printed) = (self.next, self.printed);
        let flight = self.flights.iter_mut().find(|flight| flight.due_ns <= now_ns)?;
        flight.due_ns = AWAITED;
        flight.sent_ns = now_ns;
        let sequence = flight.sequence;
        Some(match flight.purpose {
            Purpose::Void => Request::Void { sequence },
            Purpose::Sale | Purpose::Resumed => {
                let confirmed =
                    u32::try_from(next - sequence).ok().and_then(|shift| printed.checked_shr(shift));
                Request::Vend(vend(Attempt::Repeat, sequence, flight.variety, confirmed.unwrap_or(0)))
            }
        })
    }

    /// Whether something is due by `now_ns`.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.flights.iter().any(|flight| flight.due_ns <= now_ns)
    }

    /// Whether an answer is awaited since longer ago than `timeout_ns`.
    pub(crate) fn is_overdue(&self, now_ns: u64, timeout_ns: u64) -> bool {
        let awaited = |flight: &Flight| flight.due_ns == AWAITED;
        self.flights
            .iter()
            .any(|flight| awaited(flight) && now_ns.saturating_sub(flight.sent_ns) > timeout_ns)
    }

    /// Takes a printed sequence that the seller was not told of on this connection, to confirm it by itself.
    pub(crate) fn poll_unconfirmed(&mut self) -> Option<u64> {
        let untold = self.printed & !self.told;
        if untold == 0 {
            return None;
        }
        let oldest = 63 - untold.leading_zeros();
        self.told |= 1 << oldest;
        Some(self.next - 1 - u64::from(oldest))
    }

    /// Takes in a reply.
    pub(crate) fn handle_reply<'a>(
        &mut self,
        correlation: u16,
        reply: &'a Reply,
        now_ns: u64,
    ) -> Meaning<'a> {
        let sequence = match reply {
            Reply::Sold(sold) => sold.sequence,
            Reply::Declined { sequence, .. }
            | Reply::Later { sequence, .. }
            | Reply::Refused { sequence, .. }
            | Reply::State { sequence, .. } => *sequence,
            Reply::Resolved(_) | Reply::Welcome(_) | Reply::Catalogue(_) | Reply::Settled(_) => {
                return Meaning::Nothing;
            }
        };
        if correlation != correlation_of(sequence) {
            return Meaning::Misplaced { sequence };
        }
        let at = self.flights.iter().position(|flight| flight.sequence == sequence);
        match (reply, at) {
            (Reply::Sold(sold), Some(at)) => {
                let flight = self.land(at);
                let ago = self.next - 1 - sequence;
                if ago < WINDOW {
                    self.printed |= 1 << ago;
                }
                Meaning::Sold(flight, sold)
            }
            (Reply::Sold(sold), None) => Meaning::Unasked(sold),
            (Reply::Declined { reason, .. }, Some(at)) => {
                let flight = self.land(at);
                match reason {
                    DeclineReason::Blocked if flight.abroad => Meaning::GivenUp,
                    _ => Meaning::Declined(flight, *reason),
                }
            }
            (Reply::Later { reason, wait_ms, .. }, Some(at)) => {
                self.flights[at].due_ns = now_ns + u64::from((*wait_ms).max(1)) * 1_000_000;
                Meaning::Later(*reason)
            }
            (Reply::Refused { reason, .. }, Some(at)) => {
                let flight = &mut self.flights[at];
                match reason {
                    RefuseReason::WindowFull => flight.due_ns = now_ns + REFUSED_WAIT_NS,
                    RefuseReason::OtherVariety => {
                        (flight.purpose, flight.due_ns) = (Purpose::Void, now_ns);
                    }
                    _ => drop(self.flights.remove(at)),
                }
                Meaning::Refused(*reason)
            }
            (Reply::State { .. }, Some(at)) => {
                self.land(at);
                Meaning::Nothing
            }
            (Reply::State { state, reference, .. }, None) => {
                Meaning::State { sequence, state: *state, reference: *reference }
            }
            (Reply::Later { wait_ms, .. }, None) => Meaning::StateLater { sequence, wait_ms: *wait_ms },
            (Reply::Refused { reason, .. }, None) => Meaning::StateRefused { sequence, reason: *reason },
            _ => Meaning::Nothing,
        }
    }

    fn launch(&mut self, purpose: Purpose, variety: u16, intended_ns: u64, now_ns: u64) {
        let sequence = self.next;
        let (first_ns, sent_ns, due_ns) = (now_ns, now_ns, now_ns);
        let abroad = false;
        self.flights.push_back(Flight {
            sequence,
            purpose,
            variety,
            intended_ns,
            first_ns,
            sent_ns,
            due_ns,
            abroad,
        });
        self.next += 1;
        self.printed <<= 1;
        self.told <<= 1;
    }

    fn land(&mut self, at: usize) -> Flight {
        let flight = self.flights.remove(at).expect("the caller found it there");
        self.answered_top = self.answered_top.max(flight.sequence);
        flight
    }
}

/// The correlation of every question about a sequence; never 0, and different within a window.
pub(crate) fn correlation_of(sequence: u64) -> u16 {
    (sequence % 65_535) as u16 + 1
}

const AWAITED: u64 = u64::MAX;
/// How soon a vend that met a full window is repeated with the confirmations that make room.
const REFUSED_WAIT_NS: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::{Addresses, KeyEpoch, Pin, Serial};

    fn welcome(base: u64, next: u64) -> Welcome {
        Welcome {
            seller: SellerId(1),
            key_epoch: KeyEpoch(1),
            next_sequence: next,
            window_base: base,
            window: 64,
            ping_interval_s: 60,
            back_off_min_ms: 100,
            back_off_max_ms: 1000,
            catalogue_version: 1,
            addresses: Addresses::default(),
        }
    }

    fn sold(sequence: u64) -> Reply {
        let (pin, serial) = (Pin::new(b"1").unwrap(), Serial::new(b"A").unwrap());
        Reply::Sold(Sold { sequence, reference: sequence, copy: 0, expiry: 0, pin, serial })
    }

    fn vend(attempt: Attempt, sequence: u64, _: u16, confirmed: u64) -> Vend {
        Vend { attempt, sequence, product: 1, face_value: 1, deadline_ms: 1, confirmed }
    }

    fn sales(base: u64, next: u64, reserved: u64) -> Sales {
        let mut sales = Sales::new(TerminalId(9));
        sales.welcome(&welcome(base, next), reserved, |_| 0, 0).unwrap();
        sales
    }

    #[test]
    fn each_printed_sequence_is_confirmed_once_by_the_next_vend() {
        let mut sales = sales(1, 1, 0);
        assert_eq!(sales.begin(1, 0, 0), (Attempt::First, 1, 0, 0));
        assert!(matches!(sales.handle_reply(2, &sold(1), 1), Meaning::Sold(..)));
        assert_eq!(sales.begin(1, 0, 0), (Attempt::First, 2, 0, 1));
        assert_eq!(sales.begin(1, 0, 0), (Attempt::First, 3, 0, 0));
        sales.handle_reply(4, &sold(3), 1);
        sales.handle_reply(3, &sold(2), 1);
        assert_eq!(sales.begin(1, 0, 0), (Attempt::First, 4, 0, 0b11));
        sales.handle_reply(5, &sold(4), 1);
        assert_eq!(sales.poll_unconfirmed(), Some(4));
        assert_eq!(sales.poll_unconfirmed(), None);
    }

    #[test]
    fn the_window_never_passes_a_sequence_without_an_answer() {
        let mut sales = sales(1, 1, 0);
        for sequence in 1..=64 {
            assert!(sales.can_begin(64));
            assert_eq!(sales.begin(1, 0, 0).1, sequence);
        }
        for sequence in 2..=64 {
            sales.handle_reply(correlation_of(sequence), &sold(sequence), 1);
        }
        assert!(!sales.can_begin(64), "sequence 1 holds the window");
        sales.handle_reply(correlation_of(1), &sold(1), 1);
        assert!(sales.can_begin(64));
        assert_eq!(sales.begin(1, 0, 0), (Attempt::First, 65, 0, u64::MAX), "all 64 are confirmed");
    }

    #[test]
    fn what_was_not_answered_is_repeated_after_a_reconnect_with_everything_printed() {
        let mut sales = sales(1, 1, 0);
        for _ in 1..=3 {
            sales.begin(1, 0, 0);
        }
        sales.handle_reply(correlation_of(1), &sold(1), 1);
        assert!(!sales.is_due(10) && sales.is_overdue(10, 5));
        sales.welcome(&welcome(1, 4), 0, |_| 0, 20).unwrap();
        assert_eq!(sales.login(&[]).pairs(), [(SellerId(1), 2), (SellerId(1), 3)]);
        assert_eq!(sales.poll_due(20, vend), Some(Request::Vend(vend(Attempt::Repeat, 2, 0, 1))));
        assert_eq!(sales.poll_due(20, vend), Some(Request::Vend(vend(Attempt::Repeat, 3, 0, 2))));
        assert_eq!(sales.poll_due(20, vend), None);
    }

    #[test]
    fn what_an_earlier_process_asked_for_is_repeated_and_what_nobody_knows_is_voided() {
        let mut sales = sales(5, 8, 7);
        assert_eq!(sales.poll_due(0, vend), Some(Request::Vend(vend(Attempt::Repeat, 5, 0, 0))));
        assert_eq!(sales.poll_due(0, vend), Some(Request::Vend(vend(Attempt::Repeat, 6, 0, 0))));
        assert_eq!(sales.poll_due(0, vend), Some(Request::Void { sequence: 7 }));
        assert_eq!(sales.begin(1, 0, 0).0, Attempt::First);
        let mut sales = super::tests::sales(5, 5, 100);
        assert_eq!(sales.begin(1, 0, 0), (Attempt::Repeat, 5, 0, 0), "it may have been sent");
    }

    #[test]
    fn a_seller_that_forgot_an_answer_is_found_out_at_its_welcome() {
        let mut sales = sales(1, 1, 0);
        sales.begin(1, 0, 0);
        sales.handle_reply(correlation_of(1), &sold(1), 1);
        let forgot = Err(FalseWelcome::Forgot { answered: 1, next: 1 });
        assert_eq!(sales.welcome(&welcome(1, 1), 0, |_| 0, 0), forgot);
    }

    #[test]
    fn a_reply_under_another_questions_correlation_is_noticed() {
        let mut sales = sales(1, 1, 0);
        sales.begin(1, 0, 0);
        sales.begin(1, 0, 0);
        let reply = sold(2);
        let meaning = sales.handle_reply(correlation_of(1), &reply, 1);
        assert!(matches!(meaning, Meaning::Misplaced { sequence: 2 }));
        assert_eq!(sales.in_flight(), 2);
    }

    #[test]
    fn what_is_open_at_another_seller_comes_with_the_login_and_ends_there() {
        let mut away = sales(1, 1, 0);
        for _ in 0..3 {
            away.begin(1, 0, 0);
        }
        away.handle_left();
        let mut here = Sales::new(TerminalId(9));
        here.welcome(&Welcome { seller: SellerId(2), ..welcome(1, 1) }, 0, |_| 0, 0).unwrap();
        here.begin(1, 0, 0);
        let pairs = [(SellerId(1), 1), (SellerId(1), 2), (SellerId(1), 3), (SellerId(2), 1)];
        assert_eq!(here.login(&[away]).pairs(), pairs);
        let mut away = sales(1, 1, 0);
        for _ in 0..3 {
            away.begin(1, 0, 0);
        }
        away.handle_left();
        assert_eq!(away.land_abroad(2).map(|flight| flight.sequence), Some(2));
        assert!(away.end_abroad(3, true) && !away.end_abroad(3, true), "it ends once");
        assert!(away.settleable().eq([1]) && away.open().eq([1, 3]), "what is unsettled is never known");
        // It came back before it was told: the seller has blocked what it had not sold.
        away.welcome(&welcome(1, 4), 0, |_| 0, 5).unwrap();
        let blocked = Reply::Declined { sequence: 1, reason: DeclineReason::Blocked };
        assert!(matches!(away.handle_reply(correlation_of(1), &blocked, 6), Meaning::GivenUp));
    }

    #[test]
    fn later_is_asked_again_when_it_says() {
        let mut sales = sales(1, 1, 0);
        sales.begin(1, 0, 0);
        let later = Reply::Later { sequence: 1, reason: LaterReason::Busy, wait_ms: 2, reference: 0 };
        assert!(matches!(sales.handle_reply(2, &later, 0), Meaning::Later(LaterReason::Busy)));
        assert!(!sales.is_due(1_999_999) && sales.is_due(2_000_000));
        assert!(!sales.is_overdue(u64::MAX - 1, 1), "nothing is awaited meanwhile");
    }
}
