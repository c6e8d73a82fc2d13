//! Ends of a link that do just what a test says, over blocking sockets.

use super::{NODE, PATIENCE, node_keys};
use crate::link::{LinkMessage, ToHub, ToNode};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use wire::link::{
    Channel, HELLO_BYTES, LinkHandshake, LinkHello, LinkInbound, LinkIntroduction, LinkSession, Role,
};

/// One connection of a link.
pub(super) struct RawLine {
    pub(super) stream: TcpStream,
    pub(super) session: LinkSession,
    /// What was read and not understood yet.
    input: Vec<u8>,
}

pub(super) fn introduction(channel: Channel, link_id: u64) -> LinkIntroduction {
    LinkIntroduction { node: NODE, role: Role::Hcm, channel, workers: 1, link_id }
}

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads exactly one frame, whatever is in it.
pub(super) fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut frame = vec![0; 2];
    stream.read_exact(&mut frame).unwrap();
    frame.resize(usize::from(u16::from_le_bytes([frame[0], frame[1]])), 0);
    stream.read_exact(&mut frame[2..]).unwrap();
    frame
}

/// Whether the other end has closed, with nothing unread before that.
pub(super) fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Makes a node's handshake up to the hub's answer; the open is not sent. The hello is returned too.
pub(super) fn shake(address: SocketAddr, said: &LinkIntroduction) -> (RawLine, [u8; HELLO_BYTES]) {
    let mut stream = connect(address);
    let (mut handshake, hello) =
        LinkHandshake::start(said, node_keys().link_psk(), &[4; 32], ToNode::bytes_max);
    stream.write_all(&hello).unwrap();
    let answer = read_frame(&mut stream);
    let (_, session) = handshake.receive(&answer).unwrap().unwrap();
    (RawLine { stream, session, input: Vec::new() }, hello)
}

/// A node whose link is up for the hub: control and bulk.
pub(super) fn raw_node(address: SocketAddr, link_id: u64) -> [RawLine; 2] {
    let mut lines = [Channel::Control, Channel::Bulk].map(|channel| {
        let (mut line, _) = shake(address, &introduction(channel, link_id));
        line.write(LinkSession::send_open);
        line
    });
    lines.iter_mut().for_each(RawLine::expect_open);
    lines
}

/// The hub of the node that connects next, up to the opens: control and bulk.
pub(super) fn raw_hub(listener: &TcpListener) -> [RawLine; 2] {
    let mut lines = [(); 2].map(|()| {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (_, hello) = LinkHello::read(&read_frame(&mut stream)).unwrap().unwrap();
        let (session, answer) = hello.accept(node_keys().link_psk(), &[5; 32], ToHub::bytes_max).unwrap();
        stream.write_all(&answer).unwrap();
        (hello.introduction.channel, RawLine { stream, session, input: Vec::new() })
    });
    lines.sort_by_key(|(channel, _)| *channel as u8);
    lines.map(|(_, mut line)| {
        line.expect_open();
        line.write(LinkSession::send_open);
        line
    })
}

impl RawLine {
    pub(super) fn write(&mut self, frames: impl FnOnce(&mut LinkSession, &mut Vec<u8>)) {
        let mut out = Vec::new();
        frames(&mut self.session, &mut out);
        self.stream.write_all(&out).unwrap();
    }

    /// The next frame, which is an open.
    pub(super) fn expect_open(&mut self) {
        self.next(|inbound| assert_eq!(*inbound, LinkInbound::Open));
    }

    /// The next frame's content as a test wants it.
    pub(super) fn next<T>(&mut self, look: impl FnOnce(&LinkInbound<'_>) -> T) -> T {
        assert!(self.input.is_empty());
        self.input = read_frame(&mut self.stream);
        let (length, inbound) = self.session.receive(&mut self.input).unwrap().unwrap();
        let seen = look(&inbound);
        drop(inbound);
        self.input.drain(..length);
        seen
    }

    /// Sees the other end answer a ping.
    pub(super) fn ping(&mut self, number: u64) {
        self.write(|session, out| session.send_ping(number, out));
        while self.next(|inbound| *inbound != LinkInbound::Pong { number }) {}
    }

    pub(super) fn send<M: LinkMessage>(&mut self, message: &M) {
        let encoded = message.encode();
        let parts = [&encoded.head[..], &encoded.tail];
        self.write(|session, out| session.send_message(encoded.kind, false, &parts, out));
    }
}
