//! One attempt of a node to get a link: both connections, from the first packet to the hub's open.

use super::LinkOptions;
use super::fault::Fault;
use super::pair::Link;
use super::pipe::Pipe;
use crate::link::{LinkMessage, ToNode};
use crate::net::Random;
use mio::net::TcpStream;
use std::io;
use std::net::SocketAddr;
use wire::link::{Channel, LinkHandshake, LinkInbound, LinkIntroduction, LinkSession};
use zeroize::Zeroizing;

pub(super) struct Attempt {
    address: SocketAddr,
    started_ms: u64,
    due_ms: u64,
    introduction: LinkIntroduction,
    halves: [Half; 2],
}

struct Half {
    pipe: Pipe,
    phase: Phase,
}

enum Phase {
    Connecting,
    Shaking(Box<LinkHandshake>),
    /// The hub's open is due.
    Shaken(LinkSession),
    Open(LinkSession),
}

impl Attempt {
    /// Begins to connect. `introduction` is that of the control connection.
    pub(super) fn start(
        address: SocketAddr,
        introduction: LinkIntroduction,
        (started_ms, due_ms): (u64, u64),
        register: &mut impl FnMut(&mut TcpStream, Channel) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut half = |channel| {
            let mut stream = TcpStream::connect(address)?;
            register(&mut stream, channel)?;
            let mut pipe = Pipe::new(stream);
            // Connected once it may be written to.
            (pipe.readable, pipe.writable) = (false, false);
            io::Result::Ok(Half { pipe, phase: Phase::Connecting })
        };
        let halves = [half(Channel::Control)?, half(Channel::Bulk)?];
        Ok(Self { address, started_ms, due_ms, introduction, halves })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn pipe(&mut self, channel: Channel) -> &mut Pipe {
        &mut self.halves[channel as usize].pipe
    }

    /// Takes what has come; whether both connections are open.
    pub(super) fn step(&mut self, psk: &[u8; 32], random: Random, now_ms: u64) -> Result<bool, Fault> {
        for (half, channel) in self.halves.iter_mut().zip([Channel::Control, Channel::Bulk]) {
            half.step(LinkIntroduction { channel, ..self.introduction }, psk, random, now_ms)?;
        }
        if self.halves.iter().all(|half| matches!(half.phase, Phase::Open(_))) {
            return Ok(true);
        }
        if now_ms >= self.due_ms {
            return Err(Fault::Slow(self.due_ms - self.started_ms));
        }
        Ok(false)
    }

    /// The link, once both connections are open.
    pub(super) fn finish(
        self,
        options: LinkOptions,
        now_ms: u64,
    ) -> Result<(SocketAddr, Link<ToNode>), Fault> {
        let [control, bulk] = self.halves.map(|half| match half.phase {
            Phase::Open(session) => Ok((half.pipe, session)),
            _ => Err(Fault::Slow(0)),
        });
        Ok((self.address, Link::new(control?, bulk?, false, options, now_ms)))
    }
}

impl Half {
    fn step(
        &mut self,
        introduction: LinkIntroduction,
        psk: &[u8; 32],
        random: Random,
        now_ms: u64,
    ) -> Result<(), Fault> {
        let Self { pipe, phase } = self;
        loop {
            match phase {
                Phase::Connecting => {
                    if !pipe.writable {
                        return Ok(());
                    }
                    if let Some(error) = pipe.stream().take_error()? {
                        return Err(error.into());
                    }
                    pipe.stream().set_nodelay(true)?;
                    let mut fresh = Zeroizing::new([0; 32]);
                    random(&mut *fresh);
                    let (handshake, hello) =
                        LinkHandshake::start(&introduction, psk, &fresh, ToNode::bytes_max);
                    pipe.output().extend_from_slice(&hello);
                    pipe.write(usize::MAX, now_ms)?;
                    *phase = Phase::Shaking(Box::new(handshake));
                    continue;
                }
                Phase::Shaking(handshake) => {
                    if let Some((length, mut session)) = handshake.receive(pipe.unread())? {
                        pipe.consume(length);
                        session.send_open(pipe.output());
                        *phase = Phase::Shaken(session);
                        continue;
                    }
                }
                Phase::Shaken(session) => {
                    if let Some((length, inbound)) = session.receive(pipe.unread())? {
                        debug_assert_eq!(inbound, LinkInbound::Open, "a session begins with that");
                        pipe.consume(length);
                        let Phase::Shaken(session) = std::mem::replace(phase, Phase::Connecting) else {
                            unreachable!("that is this arm's phase")
                        };
                        *phase = Phase::Open(session);
                        continue;
                    }
                }
                // What follows waits for the link's other connection.
                Phase::Open(_) => return Ok(()),
            }
            pipe.write(usize::MAX, now_ms)?;
            if pipe.read()? == 0 {
                return Ok(());
            }
        }
    }
}
