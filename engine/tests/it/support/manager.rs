//! A host connection manager on a blocking socket that carries exactly what a test wants carried.

use engine::admin::KeyRow;
use engine::link::{Carried, CarriedBatch, CarriedItems, CarriedWhat, Carrying, from_server_bytes_max};
use engine::network::JoinToken;
use engine::stock::NodeKeys;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use wire::frame::REQUEST_BYTES_MAX;
use wire::link::{Channel, LinkError, LinkHandshake, LinkInbound, LinkIntroduction, LinkSession, Role};
use wire::message::{KeyEpoch, Reply, Request, TerminalId};
use wire::session::{
    HELLO_BYTES, HandshakeInbound, Mode, Suite, TerminalHandshake, TerminalInbound, TerminalSession,
};

/// A connection that carries sessions to one worker.
pub(crate) struct Manager {
    stream: TcpStream,
    session: LinkSession,
    input: Vec<u8>,
    /// What the server said first.
    pub(crate) carrying: Carrying,
    batch: CarriedBatch,
    items: VecDeque<(u32, Said)>,
}

/// What the server says of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    Frames(Vec<u8>),
    End,
}

/// Why there is no connection, or no more.
#[derive(Debug)]
pub(crate) enum Ended {
    Link(LinkError),
    /// In a close frame.
    Said(String),
    Io(#[expect(dead_code, reason = "shown when a test fails")] io::Error),
}

impl Manager {
    /// Calls a worker.
    pub(crate) fn call(address: SocketAddr, token: &JoinToken, worker: u16) -> Result<Self, Ended> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(Ended::Io)?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let introduction = LinkIntroduction {
            node: token.seller,
            role: Role::Hcm,
            channel: Channel::Sessions,
            workers: worker,
            link_id: 1,
        };
        let keys = NodeKeys::from_node_key(token.node_key.expose());
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the system has randomness");
        let (mut handshake, hello) =
            LinkHandshake::start(&introduction, keys.link_psk(), &random, from_server_bytes_max);
        stream.write_all(&hello).map_err(Ended::Io)?;
        let mut input = Vec::new();
        let mut session = loop {
            match handshake.receive(&input).map_err(Ended::Link)? {
                Some((length, session)) => {
                    input.drain(..length);
                    break session;
                }
                None => read(&mut stream, &mut input)?,
            }
        };
        let mut open = Vec::new();
        session.send_open(&mut open);
        stream.write_all(&open).map_err(Ended::Io)?;
        let carrying = Carrying { seller: token.seller, workers: 0, worker: 0 };
        let (batch, items) = (CarriedBatch::default(), VecDeque::new());
        let mut manager = Self { stream, session, input, carrying, batch, items };
        while manager.carrying.workers == 0 {
            manager.take()?;
        }
        Ok(manager)
    }

    /// What is said next.
    pub(crate) fn batch(&mut self) -> &mut CarriedBatch {
        &mut self.batch
    }

    /// Says it.
    pub(crate) fn flush(&mut self) -> Result<(), Ended> {
        let mut out = Vec::new();
        let Self { batch, session, .. } = self;
        batch.messages(|body| session.send_message(CarriedBatch::KIND, false, &[body], &mut out));
        self.stream.write_all(&out).map_err(Ended::Io)
    }

    /// The next that the server says of any session.
    pub(crate) fn next(&mut self) -> Result<(u32, Said), Ended> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(item);
            }
            self.take()?;
        }
    }

    /// Takes in one frame.
    fn take(&mut self) -> Result<(), Ended> {
        loop {
            let mut pong = None;
            let length = match self.session.receive(&mut self.input).map_err(Ended::Link)? {
                None => {
                    read(&mut self.stream, &mut self.input)?;
                    continue;
                }
                Some((length, inbound)) => {
                    match inbound {
                        LinkInbound::Message { kind: Carrying::KIND, body } => {
                            self.carrying = Carrying::decode(&body).unwrap();
                        }
                        LinkInbound::Message { body, .. } => {
                            for item in CarriedItems::new(&body) {
                                let Carried { session, what } = item.unwrap();
                                let said = match what {
                                    CarriedWhat::Frames(bytes) => Said::Frames(bytes.to_vec()),
                                    CarriedWhat::End => Said::End,
                                    CarriedWhat::Open { .. } => panic!("a server opens no session"),
                                };
                                self.items.push_back((session, said));
                            }
                        }
                        LinkInbound::Ping { number } => pong = Some(number),
                        LinkInbound::Close { why } => return Err(Ended::Said(why.to_owned())),
                        LinkInbound::Open | LinkInbound::Fragment | LinkInbound::Pong { .. } => {}
                    }
                    length
                }
            };
            self.input.drain(..length);
            if let Some(number) = pong {
                let mut out = Vec::new();
                self.session.send_pong(number, &mut out);
                self.stream.write_all(&out).map_err(Ended::Io)?;
            }
            return Ok(());
        }
    }
}

/// A terminal's end of a carried session.
pub(crate) struct CarriedTill {
    pub(crate) number: u32,
    handshake: Option<TerminalHandshake>,
    session: Option<TerminalSession>,
    input: Vec<u8>,
    correlation: u16,
}

impl CarriedTill {
    /// Adds the opening of a session to what the manager says next.
    pub(crate) fn open(manager: &mut Manager, number: u32, key: &KeyRow, mode: Mode) -> Self {
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the system has randomness");
        let mut hello = [0; HELLO_BYTES];
        let (terminal, key_epoch) = (TerminalId(key.terminal), KeyEpoch(key.key_epoch));
        let (handshake, _) = TerminalHandshake::start(
            terminal,
            key_epoch,
            Suite::AesGcm,
            mode,
            key.key.expose(),
            &random,
            &mut hello,
        );
        manager.batch().open(number, "192.0.2.1:9".parse().unwrap(), &hello);
        Self { number, handshake: Some(handshake), session: None, input: Vec::new(), correlation: 0 }
    }

    /// Adds a request to what the manager says next.
    pub(crate) fn ask(&mut self, manager: &mut Manager, request: &Request) {
        self.correlation += 1;
        let mut frame = [0; REQUEST_BYTES_MAX + 32];
        let length = self.session.as_mut().unwrap().send(self.correlation, request, &mut frame);
        manager.batch().frames(self.number, &frame[..length]);
    }

    /// Takes what was said of its session: replies, the welcome among them.
    pub(crate) fn hear(&mut self, frames: &[u8]) -> Vec<Reply> {
        self.input.extend_from_slice(frames);
        let mut replies = Vec::new();
        if let Some(mut handshake) = self.handshake.take() {
            match handshake.receive(&self.input).unwrap() {
                Some((length, HandshakeInbound::Session(session))) => {
                    self.input.drain(..length);
                    self.session = Some(session);
                }
                other => panic!("{other:?}"),
            }
        }
        let session = self.session.as_mut().unwrap();
        while let Some((length, inbound)) = session.receive(&mut self.input).unwrap() {
            self.input.drain(..length);
            match inbound {
                TerminalInbound::Reply { reply, .. } => replies.push(reply),
                other => panic!("{other:?}"),
            }
        }
        replies
    }
}

fn read(stream: &mut TcpStream, input: &mut Vec<u8>) -> Result<(), Ended> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => Err(Ended::Io(ErrorKind::UnexpectedEof.into())),
        Ok(bytes) => {
            input.extend_from_slice(&buffer[..bytes]);
            Ok(())
        }
        Err(error) => Err(Ended::Io(error)),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
