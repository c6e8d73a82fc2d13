//! Terminals that talk sealed over blocking sockets, many questions at a time.

use crate::process::Result;
use engine::admin::KeyRow;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use wire::frame::REQUEST_BYTES_MAX;
use wire::message::{Attempt, KeyEpoch, Login, Reply, Request, TerminalId, Vend};
use wire::session::{
    HELLO_BYTES, HandshakeInbound, Mode, Suite, TerminalHandshake, TerminalInbound, TerminalSession,
};

/// One terminal that is logged in.
#[derive(Debug)]
pub struct Till {
    stream: TcpStream,
    session: TerminalSession,
    input: Vec<u8>,
    next_sequence: u64,
}

impl Till {
    /// Connects and logs in.
    ///
    /// # Errors
    /// Nobody listens there, or does not want this terminal yet.
    pub fn log_in(address: SocketAddr, terminal: &KeyRow) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut random = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let mut hello = [0; HELLO_BYTES];
        let (mut handshake, length) = TerminalHandshake::start(
            TerminalId(terminal.terminal),
            KeyEpoch(terminal.key_epoch),
            Suite::AesGcm,
            Mode::Sealed,
            terminal.key.expose(),
            &random,
            &mut hello,
        );
        stream.write_all(&hello[..length])?;
        let mut input = Vec::new();
        let session = loop {
            read_more(&mut stream, &mut input)?;
            if let Some((length, inbound)) = handshake.receive(&input)? {
                input.drain(..length);
                match inbound {
                    HandshakeInbound::Session(session) => break session,
                    other => return Err(format!("sent away: {other:?}").into()),
                }
            }
        };
        let mut till = Self { stream, session, input, next_sequence: 0 };
        let Reply::Welcome(welcome) = till.answer()? else { return Err("no welcome".into()) };
        till.next_sequence = welcome.next_sequence;
        till.ask(&[Request::Login(Box::new(Login::EMPTY))])?;
        match till.answer()? {
            Reply::Resolved(_) => Ok(till),
            other => Err(format!("a login was answered {other:?}").into()),
        }
    }

    /// Asks for so many PINs at once, without waiting for them.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn vend(&mut self, count: u64, product: u32, face_value: u64) -> Result<()> {
        let vends = (self.next_sequence..self.next_sequence + count).map(|sequence| {
            let attempt = Attempt::First;
            Request::Vend(Vend { attempt, sequence, product, face_value, deadline_ms: 60_000, confirmed: 0 })
        });
        self.ask(&vends.collect::<Vec<_>>())?;
        self.next_sequence += count;
        Ok(())
    }

    /// Waits for one PIN; false when there is none yet.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn takes_pin(&mut self) -> Result<bool> {
        Ok(matches!(self.answer()?, Reply::Sold(_)))
    }

    fn ask(&mut self, requests: &[Request]) -> Result<()> {
        let mut frames = Vec::new();
        for request in requests {
            let mut frame = [0; REQUEST_BYTES_MAX];
            let length = self.session.send(0, request, &mut frame);
            frames.extend_from_slice(&frame[..length]);
        }
        Ok(self.stream.write_all(&frames)?)
    }

    fn answer(&mut self) -> Result<Reply> {
        loop {
            if let Some((length, inbound)) = self.session.receive(&mut self.input)? {
                self.input.drain(..length);
                match inbound {
                    TerminalInbound::Reply { reply, .. } => return Ok(reply),
                    other => return Err(format!("sent away: {other:?}").into()),
                }
            }
            read_more(&mut self.stream, &mut self.input)?;
        }
    }
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 16 << 10];
    match stream.read(&mut buffer)? {
        0 => Err("the connection was closed".into()),
        bytes => {
            input.extend_from_slice(&buffer[..bytes]);
            Ok(())
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
