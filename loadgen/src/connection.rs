//! One terminal's TCP connection: the session on it, and the sales over that.

use crate::check::{Sale, UNASKED, Wrong};
use crate::desk::{Desk, Stage};
use crate::sales::{FalseWelcome, Meaning, Purpose, Sales, correlation_of};
use crate::sequences::STRETCH;
use crate::words::{bye_word, declined_word, error_word, io_word, later_word, refused_word};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use wire::control::{
    Bye, ByeReason, CONTROL_BYTES_MAX, ErrorCode, encode_bye, encode_error, encode_ping, encode_pong,
};
use wire::frame::{FRAME_BYTES_MAX, REQUEST_BYTES_MAX};
use wire::message::{Addresses, Reply, Request, SequenceState, Sold, Welcome};
use wire::session::{
    HELLO_BYTES, HandshakeInbound, SessionError, TerminalHandshake, TerminalInbound, TerminalSession,
};

/// One terminal of the run and its connection.
pub(crate) struct Connection {
    /// The terminal, as an index among all of the run.
    pub(crate) terminal: u32,
    stream: Option<TcpStream>,
    phase: Phase,
    /// Read and not yet a whole frame.
    input: Vec<u8>,
    /// Not yet taken by the socket.
    output: Vec<u8>,
    pub(crate) sales: Sales,
    /// The last one, also of an earlier connection.
    welcome: Option<Welcome>,
    /// Whether this connection brought one.
    welcomed: bool,
    /// Sequences below this may be sent.
    reserved_below: u64,
    pub(crate) in_idle: bool,
    /// Since when a sale could begin, in nanoseconds of the run.
    pub(crate) idle_since_ns: u64,
    /// Status and confirm: to be asked, and asked.
    questions: VecDeque<Question>,
    asked: Vec<Question>,
    ask_after_ns: u64,
    attempts: u32,
    /// When the phase began, and when something was sent last.
    since_ns: u64,
    sent_ns: u64,
}

enum Phase {
    Down {
        retry_ns: u64,
    },
    Connecting,
    Handshaking(Box<TerminalHandshake>),
    Open(Box<TerminalSession>),
    /// The seller does not know this terminal.
    Refused,
}

/// Something to ask of a sequence that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    /// Confirm it.
    Confirm { sequence: u64 },
    /// Is it sold, under this reference?
    Status { sequence: u64, reference: u64 },
}

impl Question {
    fn sequence(self) -> u64 {
        match self {
            Self::Confirm { sequence } | Self::Status { sequence, .. } => sequence,
        }
    }
}

impl Connection {
    pub(crate) fn new(terminal: u32, desk: &Desk) -> Self {
        Self {
            terminal,
            stream: None,
            phase: Phase::Down { retry_ns: 0 },
            input: Vec::new(),
            output: Vec::new(),
            sales: Sales::new(desk.terminal(terminal).id),
            welcome: None,
            welcomed: false,
            reserved_below: 0,
            in_idle: false,
            idle_since_ns: 0,
            questions: VecDeque::new(),
            asked: Vec::new(),
            ask_after_ns: 0,
            attempts: 0,
            since_ns: 0,
            sent_ns: 0,
        }
    }

    /// Whether sales can begin.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_welcomed() && self.sales.next() < self.reserved_below
    }

    fn is_welcomed(&self) -> bool {
        matches!(self.phase, Phase::Open(_)) && self.welcomed
    }

    /// Whether the seller refuses this terminal for good.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.phase, Phase::Refused)
    }

    /// Whether it is between the start of a connection and its welcome.
    pub(crate) fn is_connecting(&self) -> bool {
        match self.phase {
            Phase::Connecting | Phase::Handshaking(_) => true,
            Phase::Open(_) => !self.welcomed,
            Phase::Down { .. } | Phase::Refused => false,
        }
    }

    /// Whether it is time to connect.
    pub(crate) fn wants_connection(&self, now_ns: u64) -> bool {
        matches!(self.phase, Phase::Down { retry_ns } if retry_ns <= now_ns)
    }

    /// What is not yet answered: sales, and questions after the run.
    pub(crate) fn outstanding(&self) -> usize {
        self.sales.in_flight() + self.questions.len() + self.asked.len()
    }

    /// Starts a connection.
    pub(crate) fn connect(&mut self, registry: &Registry, token: Token, desk: &mut Desk, now_ns: u64) {
        self.since_ns = now_ns;
        let connected = TcpStream::connect(desk.target()).and_then(|mut stream| {
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => (self.stream, self.phase) = (Some(stream), Phase::Connecting),
            Err(error) => self.fall(io_word(&error), desk, now_ns),
        }
    }

    /// The socket is ready for something.
    pub(crate) fn handle_ready(&mut self, desk: &mut Desk) {
        let now_ns = desk.now_ns();
        if matches!(self.phase, Phase::Connecting) && !self.begin_handshake(desk, now_ns) {
            return;
        }
        self.read(desk);
        if matches!(self.phase, Phase::Open(_)) {
            let now_ns = desk.now_ns();
            self.advance(desk, now_ns);
        }
    }

    /// Sends what may be sent now.
    pub(crate) fn advance(&mut self, desk: &mut Desk, now_ns: u64) {
        if !self.is_welcomed() {
            return;
        }
        if self.sales.next() >= self.reserved_below {
            return desk.reserve_for(self.terminal);
        }
        if self.sales.is_due(now_ns) {
            while let Some(request) = self.sales.poll_due(now_ns, |attempt, sequence, variety, confirmed| {
                desk.vend(attempt, sequence, variety, confirmed)
            }) {
                desk.interval.counts.repeats += 1;
                self.put(&request);
            }
        }
        match desk.stage(now_ns) {
            Stage::Closed => {
                while self.can_begin(desk) {
                    self.begin(now_ns, desk, now_ns);
                }
            }
            Stage::Open if !self.in_idle && self.can_begin(desk) => {
                (self.in_idle, self.idle_since_ns) = (true, now_ns);
                desk.idle.push_back(self.terminal);
            }
            Stage::Open | Stage::Waiting => {}
            Stage::After => self.ask(now_ns),
        }
        self.flush(desk, now_ns);
    }

    /// Whether another sale may begin.
    pub(crate) fn can_begin(&self, desk: &Desk) -> bool {
        self.is_ready() && self.sales.can_begin(desk.window())
    }

    /// Begins one sale; [`flush`](Self::flush) sends it.
    pub(crate) fn begin(&mut self, intended_ns: u64, desk: &mut Desk, now_ns: u64) {
        let (attempt, sequence, variety, confirmed) = self.sales.begin(desk.varieties(), intended_ns, now_ns);
        desk.interval.counts.begun += 1;
        let vend = desk.vend(attempt, sequence, variety, confirmed);
        self.put(&Request::Vend(vend));
    }

    /// Gives the socket what was put; what it does not take goes when it is ready.
    pub(crate) fn flush(&mut self, desk: &mut Desk, now_ns: u64) {
        if self.output.is_empty() {
            return;
        }
        let Some(stream) = &mut self.stream else { return };
        let mut written = 0;
        while written < self.output.len() {
            match stream.write(&self.output[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fall(io_word(&error), desk, now_ns),
            }
        }
        self.output.drain(..written);
        self.sent_ns = now_ns;
    }

    /// Questions to ask after the run.
    pub(crate) fn question(&mut self, question: Question) {
        self.questions.push_back(question);
    }

    /// Looks for what is overdue.
    pub(crate) fn sweep(&mut self, desk: &mut Desk, now_ns: u64) {
        let silent_ns = now_ns.saturating_sub(self.since_ns);
        match self.phase {
            Phase::Connecting | Phase::Handshaking(_) if silent_ns > CONNECT_NS_MAX => {
                self.fall("no answer", desk, now_ns);
            }
            Phase::Open(_) if !self.welcomed && silent_ns > CONNECT_NS_MAX => {
                self.fall("no welcome", desk, now_ns);
            }
            Phase::Open(_) if self.sales.is_overdue(now_ns, desk.reply_timeout_ns()) => {
                desk.interval.counts.timeouts += 1;
                self.fall("no reply in time", desk, now_ns);
            }
            Phase::Open(_) => {
                let ping_ns =
                    self.welcome.map_or(u64::MAX, |welcome| u64::from(welcome.ping_interval_s) * 800_000_000);
                if now_ns.saturating_sub(self.sent_ns) > ping_ns {
                    let mut ping = [0; CONTROL_BYTES_MAX];
                    let length = encode_ping(0, &mut ping);
                    self.output.extend_from_slice(&ping[..length]);
                    self.flush(desk, now_ns);
                } else if self.sales.is_due(now_ns) || !self.questions.is_empty() || desk.is_after() {
                    self.advance(desk, now_ns);
                }
            }
            Phase::Connecting | Phase::Handshaking(_) | Phase::Down { .. } | Phase::Refused => {}
        }
    }

    /// Sequences up to a stretch further may be sent now.
    pub(crate) fn reserved(&mut self, below: u64, desk: &mut Desk, now_ns: u64) {
        self.reserved_below = self.reserved_below.max(below);
        self.advance(desk, now_ns);
    }

    /// The series and the end of the stretch that this connection needs reserved.
    pub(crate) fn reservation(&self, desk: &Desk) -> Option<(crate::sequences::Series, u64)> {
        let terminal = desk.terminal(self.terminal);
        let seller = self.welcome?.seller;
        Some(((terminal.id, terminal.key_epoch, seller), self.sales.next() + STRETCH))
    }

    /// Says good-bye.
    pub(crate) fn leave(&mut self) {
        if let Some(stream) = &mut self.stream {
            let bye = Bye { reason: ByeReason::Done, wait_ms: 0, addresses: Addresses::default() };
            let mut frame = [0; CONTROL_BYTES_MAX];
            let length = encode_bye(&bye, &mut frame);
            // The run is over: whether it arrives does not matter.
            let _ = stream.write(&frame[..length]);
        }
        self.stream = None;
    }

    fn begin_handshake(&mut self, desk: &mut Desk, now_ns: u64) -> bool {
        let Some(stream) = &self.stream else { return false };
        let connected = match stream.take_error() {
            Ok(Some(error)) | Err(error) => Err(error),
            Ok(None) => stream.peer_addr(),
        };
        match connected {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return false,
            Err(error) => {
                self.fall(io_word(&error), desk, now_ns);
                return false;
            }
            Ok(_) => {}
        }
        // Without it the run is slower, and the figures show it.
        let _ = stream.set_nodelay(true);
        let mut random = [0; 32];
        if getrandom::fill(&mut random).is_err() {
            self.fall("no randomness", desk, now_ns);
            return false;
        }
        let terminal = desk.terminal(self.terminal);
        let mut hello = [0; HELLO_BYTES];
        let (suite, mode) = desk.protection();
        let (handshake, length) = TerminalHandshake::start(
            terminal.id,
            terminal.key_epoch,
            suite,
            mode,
            &terminal.key,
            &random,
            &mut hello,
        );
        self.output.extend_from_slice(&hello[..length]);
        self.phase = Phase::Handshaking(Box::new(handshake));
        self.flush(desk, now_ns);
        !matches!(self.phase, Phase::Down { .. })
    }

    fn read(&mut self, desk: &mut Desk) {
        let mut buffer = std::mem::take(&mut desk.buffer);
        loop {
            let held = self.input.len();
            buffer[..held].copy_from_slice(&self.input);
            self.input.clear();
            let Some(stream) = &mut self.stream else { break };
            let read = stream.read(&mut buffer[held..]);
            let now_ns = desk.now_ns();
            match read {
                Ok(0) => {
                    self.fall("closed by the seller", desk, now_ns);
                    break;
                }
                Ok(bytes) => {
                    let end = held + bytes;
                    let taken = self.take_frames(&mut buffer[..end], desk, now_ns);
                    if self.stream.is_none() {
                        break;
                    }
                    self.input.extend_from_slice(&buffer[taken..end]);
                    if end < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.input.extend_from_slice(&buffer[..held]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.input.extend_from_slice(&buffer[..held]);
                    break;
                }
                Err(error) => {
                    self.fall(io_word(&error), desk, now_ns);
                    break;
                }
            }
        }
        desk.buffer = buffer;
    }

    /// Takes whole frames from the front of `bytes`; returns how many bytes it took.
    fn take_frames(&mut self, bytes: &mut [u8], desk: &mut Desk, now_ns: u64) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let received = match &mut self.phase {
                Phase::Handshaking(handshake) => handshake
                    .receive(&bytes[at..])
                    .map(|taken| taken.map(|(length, answer)| (length, Frame::Answer(answer)))),
                Phase::Open(session) => session
                    .receive(&mut bytes[at..])
                    .map(|taken| taken.map(|(length, inbound)| (length, Frame::Inbound(inbound)))),
                _ => break,
            };
            match received {
                Ok(None) => break,
                Ok(Some((length, frame))) => {
                    at += length;
                    self.take_frame(frame, desk, now_ns);
                }
                Err(error) => {
                    self.fault(error, desk, now_ns);
                    break;
                }
            }
        }
        at
    }

    fn take_frame(&mut self, frame: Frame, desk: &mut Desk, now_ns: u64) {
        match frame {
            Frame::Answer(HandshakeInbound::Session(session)) => {
                self.phase = Phase::Open(Box::new(session));
                (self.welcomed, self.since_ns) = (false, now_ns);
            }
            Frame::Inbound(TerminalInbound::Reply { reply: Reply::Welcome(welcome), .. }) => {
                self.take_welcome(&welcome, desk, now_ns);
            }
            Frame::Inbound(TerminalInbound::Reply { correlation, reply }) => {
                let meaning = self.sales.handle_reply(correlation, &reply, now_ns);
                self.take_meaning(&meaning, desk, now_ns);
            }
            Frame::Inbound(TerminalInbound::Ping { correlation }) => {
                let mut pong = [0; CONTROL_BYTES_MAX];
                let length = encode_pong(correlation, &mut pong);
                self.output.extend_from_slice(&pong[..length]);
            }
            Frame::Inbound(TerminalInbound::Pong { .. }) => {}
            Frame::Answer(HandshakeInbound::Bye(bye)) | Frame::Inbound(TerminalInbound::Bye(bye)) => {
                self.fall(bye_word(bye.reason), desk, now_ns);
                if let Phase::Down { retry_ns } = &mut self.phase {
                    *retry_ns = (*retry_ns).max(now_ns + u64::from(bye.wait_ms) * 1_000_000);
                }
            }
            Frame::Answer(HandshakeInbound::Error(notice))
            | Frame::Inbound(TerminalInbound::Error(notice)) => {
                self.fall(error_word(notice.code), desk, now_ns);
                let hopeless =
                    [ErrorCode::Authentication, ErrorCode::Version, ErrorCode::Suite, ErrorCode::Mode];
                if hopeless.contains(&notice.code) {
                    self.phase = Phase::Refused;
                }
            }
        }
    }

    fn take_welcome(&mut self, welcome: &Welcome, desk: &mut Desk, now_ns: u64) {
        let terminal = desk.terminal(self.terminal);
        let series = (terminal.id, terminal.key_epoch, welcome.seller);
        let number = terminal.id.0;
        let reserved = desk.reserved_earlier(series);
        if self.welcome.is_some_and(|before| before.seller != welcome.seller) {
            // What was to be asked of one seller means nothing at another.
            self.questions.clear();
            self.asked.clear();
            self.reserved_below = 0;
        }
        let variety = |sequence| desk.earlier_variety(number, sequence);
        match self.sales.welcome(welcome, reserved, variety, now_ns) {
            Ok(()) => {}
            Err(FalseWelcome::Forgot { answered, next }) => {
                desk.findings.add(Wrong::Lost, || {
                    format!(
                        "terminal {number}: sequence {answered} was answered, the seller's next is {next}"
                    )
                });
                return self.fall("false welcome", desk, now_ns);
            }
            Err(FalseWelcome::Window) => return self.fall("false welcome", desk, now_ns),
        }
        self.questions.extend(self.asked.drain(..));
        (self.welcome, self.welcomed, self.attempts) = (Some(*welcome), true, 0);
        let login = Request::Login(self.sales.login());
        self.put(&login);
        self.flush(desk, now_ns);
    }

    fn take_meaning(&mut self, meaning: &Meaning, desk: &mut Desk, now_ns: u64) {
        let number = desk.terminal(self.terminal).id.0;
        match meaning {
            Meaning::Sold(flight, sold) => {
                match flight.purpose {
                    Purpose::Sale => desk.sold(flight, now_ns),
                    Purpose::Resumed => desk.interval.counts.resumed += 1,
                    // It was to be voided: a PIN that nobody asked for.
                    Purpose::Void => desk.findings.add(Wrong::Misplaced, || {
                        format!("terminal {number}: a PIN answers the void of sequence {}", flight.sequence)
                    }),
                }
                let resumed = flight.purpose == Purpose::Resumed;
                desk.book.push(Sale { resumed, ..self.sale(sold, flight.variety) });
            }
            Meaning::Unasked(sold) => desk.book.push(self.sale(sold, UNASKED)),
            Meaning::Declined(flight, reason) => {
                if flight.purpose == Purpose::Sale {
                    desk.interval.counts.declined.add(declined_word(*reason));
                }
            }
            Meaning::Later(reason) => desk.interval.counts.later.add(later_word(*reason)),
            Meaning::Refused(reason) => desk.interval.counts.refused.add(refused_word(*reason)),
            Meaning::State { sequence, state, reference } => {
                self.take_state(*sequence, *state, *reference, desk);
            }
            Meaning::StateLater { sequence, wait_ms } => {
                if let Some(question) = self.take_asked(*sequence) {
                    self.questions.push_back(question);
                    self.ask_after_ns = now_ns + u64::from(*wait_ms) * 1_000_000;
                }
            }
            Meaning::StateRefused { sequence, reason } => {
                self.take_asked(*sequence);
                desk.findings.add(Wrong::Lost, || {
                    format!(
                        "terminal {number} sequence {sequence}: sold, and then \"{}\"",
                        refused_word(*reason)
                    )
                });
            }
            Meaning::Misplaced { sequence } => desk.findings.add(Wrong::Misplaced, || {
                format!("terminal {number}: the answer to another question names sequence {sequence}")
            }),
            Meaning::Nothing => {}
        }
    }

    fn take_state(&mut self, sequence: u64, state: SequenceState, reference: u64, desk: &mut Desk) {
        let number = desk.terminal(self.terminal).id.0;
        let is_sold = matches!(state, SequenceState::Sold | SequenceState::Confirmed);
        match self.take_asked(sequence) {
            Some(Question::Confirm { .. }) if state == SequenceState::Confirmed => {}
            Some(Question::Status { reference: sold, .. }) if is_sold && reference == sold => {
                desk.interval.counts.rechecked += 1;
            }
            Some(Question::Status { reference: sold, .. }) if is_sold => {
                desk.findings.add(Wrong::AnswerChanged, || {
                    format!(
                        "terminal {number} sequence {sequence}: sold as {sold}, its status says {reference}"
                    )
                });
            }
            Some(_) => desk.findings.add(Wrong::Lost, || {
                format!("terminal {number} sequence {sequence}: sold, and then {state:?}")
            }),
            None => {}
        }
    }

    fn take_asked(&mut self, sequence: u64) -> Option<Question> {
        let at = self.asked.iter().position(|question| question.sequence() == sequence)?;
        Some(self.asked.swap_remove(at))
    }

    /// After the run: confirm what the last vends could not, then ask what the seller says it sold.
    fn ask(&mut self, now_ns: u64) {
        if self.sales.in_flight() == 0 {
            while let Some(sequence) = self.sales.poll_unconfirmed() {
                self.questions.push_front(Question::Confirm { sequence });
            }
        }
        if now_ns < self.ask_after_ns {
            return;
        }
        while self.asked.len() < ASKED_MAX
            && let Some(question) = self.questions.pop_front()
        {
            let sequence = question.sequence();
            let request = match question {
                Question::Confirm { .. } => Request::Confirm { sequence },
                Question::Status { .. } => Request::Status { sequence },
            };
            self.asked.push(question);
            self.put(&request);
        }
    }

    fn sale(&self, sold: &Sold, variety: u16) -> Sale {
        let Sold { sequence, reference, pin, serial, .. } = *sold;
        Sale { sequence, reference, terminal: self.terminal, variety, resumed: false, pin, serial }
    }

    fn put(&mut self, request: &Request) {
        let Phase::Open(session) = &mut self.phase else { return };
        let correlation = match request {
            Request::Vend(vend) => correlation_of(vend.sequence),
            Request::Confirm { sequence }
            | Request::Void { sequence }
            | Request::Status { sequence }
            | Request::Reprint { sequence } => correlation_of(*sequence),
            Request::Login(_) | Request::Catalogue { .. } => 0,
        };
        let at = self.output.len();
        self.output.resize(at + REQUEST_BYTES_MAX, 0);
        let length = session.send(correlation, request, &mut self.output[at..]);
        self.output.truncate(at + length);
    }

    /// The seller sent what it must not: tell it and connect again.
    fn fault(&mut self, error: SessionError, desk: &mut Desk, now_ns: u64) {
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_error(error.code(), &mut frame);
        if let Some(stream) = &mut self.stream {
            // The connection ends anyway.
            let _ = stream.write(&frame[..length]);
        }
        desk.findings.add(Wrong::Misplaced, || format!("the seller breaks the protocol: {error}"));
        self.fall("protocol broken", desk, now_ns);
    }

    /// The connection is gone: connect again after a while.
    fn fall(&mut self, why: &'static str, desk: &mut Desk, now_ns: u64) {
        let counts = &mut desk.interval.counts;
        match self.phase {
            Phase::Open(_) if self.welcomed => counts.connections_lost.add(why),
            _ => counts.connects_failed.add(why),
        }
        let (least_ms, most_ms) =
            self.welcome.map_or((200, 10_000), |welcome| (welcome.back_off_min_ms, welcome.back_off_max_ms));
        let doubled = u64::from(least_ms) << self.attempts.min(10);
        let wait_ms = doubled.min(u64::from(most_ms.max(least_ms)));
        let part = u64::from(self.terminal).wrapping_mul(0x9e37_79b9) % 512;
        self.attempts += 1;
        self.phase = Phase::Down { retry_ns: now_ns + wait_ms * 1_000_000 * (1024 + part) / 1024 };
        self.stream = None;
        self.input.clear();
        self.output.clear();
        // Whatever was asked will be asked again.
        self.questions.extend(self.asked.drain(..));
    }
}

#[expect(clippy::large_enum_variant, reason = "a value on the stack, looked at once")]
enum Frame {
    Answer(HandshakeInbound),
    Inbound(TerminalInbound),
}

/// Room for what was left of the frame before and for a long read.
pub(crate) const BUFFER_BYTES: usize = FRAME_BYTES_MAX + (64 << 10);
const CONNECT_NS_MAX: u64 = 10_000_000_000;
/// Questions in flight after the run.
const ASKED_MAX: usize = 16;
