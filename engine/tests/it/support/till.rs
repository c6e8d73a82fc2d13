//! A terminal on a blocking socket that says exactly what a test wants said.

use engine::admin::KeyRow;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use wire::control::{Bye, ErrorCode, ErrorNotice};
use wire::frame::{REQUEST_BYTES_MAX, TRAILER_BYTES};
use wire::message::{
    Attempt, KeyEpoch, Login, Reply, Request, SequenceState, Sold, TerminalId, Vend, Welcome,
};
use wire::session::{
    HELLO_BYTES, HandshakeInbound, Mode, Suite, TerminalHandshake, TerminalInbound, TerminalSession,
};

/// A connected till.
pub(crate) struct Till {
    pub(crate) stream: TcpStream,
    session: TerminalSession,
    input: Vec<u8>,
    correlation: u16,
    /// What the seller said first.
    pub(crate) welcome: Welcome,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The connection failed.
    Io(#[expect(dead_code, reason = "shown when a test fails")] io::Error),
    /// The seller said goodbye.
    Bye(Bye),
    /// The seller closed with a code.
    Error(ErrorNotice),
}

impl Lost {
    /// The code that the seller closed with.
    ///
    /// # Panics
    /// If the connection ended in another way.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Error(notice) => notice.code,
            other => panic!("{other:?}"),
        }
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Till {
    /// Connects, shakes hands and logs in with nothing unresolved.
    pub(crate) fn connect(address: SocketAddr, key: &KeyRow, patience: Duration) -> Result<Self, Lost> {
        Self::log_in(TcpStream::connect_timeout(&address, patience)?, key, patience)
    }

    /// The same on a connection.
    pub(crate) fn log_in(stream: TcpStream, key: &KeyRow, patience: Duration) -> Result<Self, Lost> {
        let mut till = Self::shake_hands(stream, key, Mode::Sealed, patience)?;
        till.ask(&Request::Login(Box::new(Login::EMPTY)))?;
        Ok(till)
    }

    /// Connects, shakes hands and hears the welcome, but does not log in.
    pub(crate) fn connect_unlogged(
        address: SocketAddr,
        key: &KeyRow,
        mode: Mode,
        patience: Duration,
    ) -> Result<Self, Lost> {
        Self::shake_hands(TcpStream::connect_timeout(&address, patience)?, key, mode, patience)
    }

    /// The same on a connection.
    pub(crate) fn shake_hands(
        mut stream: TcpStream,
        key: &KeyRow,
        mode: Mode,
        patience: Duration,
    ) -> Result<Self, Lost> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let (terminal, epoch) = (TerminalId(key.terminal), KeyEpoch(key.key_epoch));
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the system has randomness");
        let mut hello = [0; HELLO_BYTES];
        let (mut handshake, length) = TerminalHandshake::start(
            terminal,
            epoch,
            Suite::AesGcm,
            mode,
            key.key.expose(),
            &random,
            &mut hello,
        );
        stream.write_all(&hello[..length])?;
        let mut input = Vec::new();
        let session = loop {
            match handshake.receive(&input).map_err(io::Error::other)? {
                Some((length, HandshakeInbound::Session(session))) => {
                    input.drain(..length);
                    break session;
                }
                Some((_, HandshakeInbound::Bye(bye))) => return Err(Lost::Bye(*bye)),
                Some((_, HandshakeInbound::Error(notice))) => return Err(Lost::Error(notice)),
                None => more(&mut stream, &mut input)?,
            }
        };
        let nothing = Welcome {
            seller: wire::message::SellerId(0),
            key_epoch: epoch,
            next_sequence: 0,
            window_base: 0,
            window: 0,
            ping_interval_s: 0,
            back_off_min_ms: 0,
            back_off_max_ms: 0,
            catalogue_version: 0,
            addresses: wire::message::Addresses::default(),
        };
        let mut till = Self { stream, session, input, correlation: 0, welcome: nothing };
        match till.receive()? {
            (_, Reply::Welcome(welcome)) => till.welcome = *welcome,
            other => panic!("a welcome comes first, not {other:?}"),
        }
        Ok(till)
    }

    /// A request as the bytes of its frame, to be sent next.
    pub(crate) fn frame(&mut self, request: &Request) -> Vec<u8> {
        self.correlation = self.correlation.wrapping_add(1);
        let mut frame = [0; REQUEST_BYTES_MAX + TRAILER_BYTES];
        let length = self.session.send(self.correlation, request, &mut frame);
        frame[..length].to_vec()
    }

    /// Sends a request without waiting; its correlation.
    pub(crate) fn send(&mut self, request: &Request) -> Result<u16, Lost> {
        let frame = self.frame(request);
        self.stream.write_all(&frame)?;
        Ok(self.correlation)
    }

    /// The next answer.
    pub(crate) fn receive(&mut self) -> Result<(u16, Reply), Lost> {
        loop {
            match self.session.receive(&mut self.input).map_err(io::Error::other)? {
                Some((length, inbound)) => {
                    self.input.drain(..length);
                    match inbound {
                        TerminalInbound::Reply { correlation, reply } => return Ok((correlation, reply)),
                        TerminalInbound::Bye(bye) => return Err(Lost::Bye(*bye)),
                        TerminalInbound::Error(notice) => return Err(Lost::Error(notice)),
                        TerminalInbound::Ping { .. } | TerminalInbound::Pong { .. } => {}
                    }
                }
                None => more(&mut self.stream, &mut self.input)?,
            }
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, Lost> {
        let asked = self.send(request)?;
        let (answered, reply) = self.receive()?;
        assert_eq!(answered, asked, "an answer to another question: {reply:?}");
        Ok(reply)
    }

    /// One vend, whatever comes of it.
    pub(crate) fn vend(
        &mut self,
        attempt: Attempt,
        sequence: u64,
        of: (u32, u64),
        confirmed: u64,
    ) -> Result<Reply, Lost> {
        let (product, face_value) = of;
        self.ask(&Request::Vend(Vend {
            attempt,
            sequence,
            product,
            face_value,
            deadline_ms: 5_000,
            confirmed,
        }))
    }

    /// Repeats a vend until it is sold: `later` is asked again. The sale before it counts as printed.
    pub(crate) fn sell(&mut self, attempt: Attempt, sequence: u64, of: (u32, u64)) -> Result<Sold, Lost> {
        let by = Instant::now() + super::process::PATIENCE;
        let mut attempt = attempt;
        loop {
            match self.vend(attempt, sequence, of, u64::from(sequence > 1))? {
                Reply::Sold(sold) => return Ok(sold),
                Reply::Later { .. } => std::thread::sleep(Duration::from_millis(20)),
                other => panic!("sequence {sequence}: {other:?}"),
            }
            attempt = Attempt::Repeat;
            assert!(Instant::now() < by, "sequence {sequence} is never sold");
        }
    }

    /// The state of a sequence.
    pub(crate) fn state(&mut self, request: &Request) -> Result<SequenceState, Lost> {
        match self.ask(request)? {
            Reply::State { state, .. } => Ok(state),
            other => panic!("{other:?}"),
        }
    }
}

/// What a receipt shows of a PIN besides it.
pub(crate) fn serial(sold: &Sold) -> String {
    String::from_utf8_lossy(sold.serial.as_bytes()).into_owned()
}

fn more(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 4096];
    match stream.read(&mut chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => {
            input.extend_from_slice(&chunk[..length]);
            Ok(())
        }
    }
}
