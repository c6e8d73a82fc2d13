//! One terminal's TCP connection: the session on it, and the sales over that.

mod abroad;
mod answers;
mod bytes;
mod questions;

pub(crate) use bytes::BUFFER_BYTES;
pub(crate) use questions::{Question, What};

use crate::desk::{Desk, Stage};
use crate::sales::Sales;
use crate::sequences::STRETCH;
use crate::words::io_word;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use questions::Questions;
use std::io::Write as _;
use std::net::SocketAddr;
use wire::control::{Bye, ByeReason, CONTROL_BYTES_MAX, encode_bye, encode_ping};
use wire::message::{Addresses, Request, Welcome};
use wire::session::{TerminalHandshake, TerminalSession};

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
    /// Its sales at sellers that it was connected with before.
    pub(crate) elsewhere: Vec<Sales>,
    /// Where it connects now, and where the last welcome came from.
    address: SocketAddr,
    known_good: SocketAddr,
    /// The last one, also of an earlier connection.
    welcome: Option<Welcome>,
    /// Whether this connection brought one.
    welcomed: bool,
    /// Sequences below this may be sent.
    reserved_below: u64,
    pub(crate) in_idle: bool,
    /// Since when a sale could begin, in nanoseconds of the run.
    pub(crate) idle_since_ns: u64,
    /// To be asked, and asked.
    questions: Questions,
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
    /// Connected, without a session: hello again then.
    Renewing {
        hello_ns: u64,
    },
    Open(Box<TerminalSession>),
    /// The seller does not know this terminal.
    Refused,
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
            elsewhere: Vec::new(),
            address: desk.target(terminal),
            known_good: desk.target(terminal),
            welcome: None,
            welcomed: false,
            reserved_below: 0,
            in_idle: false,
            idle_since_ns: 0,
            questions: Questions::default(),
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
            Phase::Down { .. } | Phase::Renewing { .. } | Phase::Refused => false,
        }
    }

    /// Whether it is time to connect.
    pub(crate) fn wants_connection(&self, now_ns: u64) -> bool {
        matches!(self.phase, Phase::Down { retry_ns } if retry_ns <= now_ns)
    }

    /// What is not yet answered: sales, also of earlier sellers, and questions after the run.
    pub(crate) fn outstanding(&self) -> usize {
        let away: usize = self.elsewhere.iter().map(|sales| sales.settleable().count()).sum();
        self.sales.in_flight() + away + self.questions.outstanding()
    }

    /// Sequences whose outcome is not known, and their sellers.
    pub(crate) fn open(&self) -> impl Iterator<Item = (u32, u64)> {
        let all = self.elsewhere.iter().chain([&self.sales]);
        all.flat_map(|sales| sales.open().filter_map(move |sequence| Some((sales.seller()?.0, sequence))))
    }

    /// Starts a connection.
    pub(crate) fn connect(&mut self, registry: &Registry, token: Token, desk: &mut Desk, now_ns: u64) {
        self.since_ns = now_ns;
        let known = self.addresses(desk);
        self.address = known[self.attempts as usize % known.len()];
        let connected = TcpStream::connect(self.address).and_then(|mut stream| {
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => (self.stream, self.phase) = (Some(stream), Phase::Connecting),
            Err(error) => self.fall(io_word(&error), desk, now_ns),
        }
    }

    /// Where it may connect: where it was last, where the welcome said, and where the run began.
    pub(super) fn addresses(&self, desk: &Desk) -> Vec<SocketAddr> {
        let mut known = vec![self.known_good];
        let said = self.welcome.iter().flat_map(|welcome| welcome.addresses.sockets());
        for address in said.chain([desk.target(self.terminal)]) {
            if !known.contains(&address) {
                known.push(address);
            }
        }
        known
    }

    /// The socket is ready for something.
    pub(crate) fn handle_ready(&mut self, desk: &mut Desk) {
        if matches!(self.phase, Phase::Connecting) {
            let now_ns = desk.now_ns();
            if !self.begin_handshake(desk, now_ns) {
                return;
            }
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
            Stage::After => self.confirm_the_rest(),
        }
        self.ask(desk.is_after(), desk.protection().0, now_ns);
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

    /// Something to ask after the run.
    pub(crate) fn question(&mut self, question: Question) {
        self.questions.add(question);
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
                } else if self.sales.is_due(now_ns) || self.questions.are_waiting() || desk.is_after() {
                    self.advance(desk, now_ns);
                }
            }
            Phase::Renewing { hello_ns } if hello_ns <= now_ns => {
                self.since_ns = now_ns;
                self.begin_handshake(desk, now_ns);
            }
            Phase::Connecting
            | Phase::Handshaking(_)
            | Phase::Renewing { .. }
            | Phase::Down { .. }
            | Phase::Refused => {}
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
}

const CONNECT_NS_MAX: u64 = 10_000_000_000;
