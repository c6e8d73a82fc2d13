//! The handshake of one connection: `Noise_NNpsk0_25519_AESGCM_SHA256` under the node's link key, with the clear part of
//! the hello as its prologue.

use super::frame::{
    FrameHeader, FrameKind, HANDSHAKE_BYTES, HELLO_BYTES, VERSION_CONNECTION, VERSION_MAX, VERSION_MIN,
    read_error,
};
use super::session::{End, LinkSession, MessageLimit};
use super::{Channel, LinkError, Role};
use crate::codec::{Reader, Writer};
use crate::frame::{FrameError, HEADER_BYTES};
use crate::message::SellerId;
use crate::noise::{self, Initiator, NOISE_MESSAGE_BYTES};
use crate::session::Suite;

/// Front part of a hello that both ends put under the handshake as its prologue, in bytes.
pub(crate) const PROLOGUE_BYTES: usize = HELLO_BYTES - NOISE_MESSAGE_BYTES;

/// What a node says of itself in a hello. It is proved only by the node's first sealed frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkIntroduction {
    /// Who it is.
    pub node: SellerId,
    /// What it is.
    pub role: Role,
    /// Which of the link's connections this is.
    pub channel: Channel,
    /// Between how many workers its terminals are spread; of a connection for sessions: the server's worker that is called,
    /// from 0.
    pub workers: u16,
    /// Random for every link, and the same for its two connections.
    pub link_id: u64,
}

/// The node's end between its hello and the hub's handshake frame.
pub struct LinkHandshake {
    initiator: Initiator,
    limit: MessageLimit,
}

impl LinkHandshake {
    /// Starts a handshake and returns the hello. `random` must be fresh. `limit` is for what the hub will send.
    #[must_use]
    pub fn start(
        introduction: &LinkIntroduction,
        psk: &[u8; 32],
        random: &[u8; 32],
        limit: MessageLimit,
    ) -> (Self, [u8; HELLO_BYTES]) {
        let header = FrameHeader { length: HELLO_BYTES, kind: FrameKind::Hello, version: VERSION_CONNECTION };
        let mut hello = [0; HELLO_BYTES];
        let mut body = Writer::new(&mut hello);
        body.bytes(&header.to_bytes());
        body.bytes(MAGIC);
        body.bytes(&[VERSION_MIN, VERSION_MAX, Suite::AesGcm as u8, introduction.role as u8]);
        body.u32(introduction.node.0);
        body.bytes(&[introduction.channel as u8, 0]);
        body.u16(introduction.workers);
        body.u64(introduction.link_id);
        assert_eq!(body.length(), PROLOGUE_BYTES, "the prologue ends where the handshake message begins");
        let (initiator, message) = Initiator::start(Suite::AesGcm, &hello[..PROLOGUE_BYTES], psk, random);
        hello[PROLOGUE_BYTES..].copy_from_slice(&message);
        (Self { initiator, limit }, hello)
    }

    /// Takes the frame at the front of `bytes` and returns its length too; `None` while it is incomplete.
    ///
    /// # Errors
    /// What the hub did wrong; `Refused` if it wants no link with this node, `Authentication` if it does not know the key.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<(usize, LinkSession)>, LinkError> {
        let Some(header) = FrameHeader::parse(bytes)? else { return Ok(None) };
        let body = &bytes[HEADER_BYTES..header.length];
        match header.kind {
            FrameKind::Handshake => {}
            FrameKind::Error => return Err(LinkError::Refused(read_error(body)?)),
            FrameKind::Hello | FrameKind::Sealed => return Err(LinkError::OutOfOrder),
        }
        let message: &[u8; NOISE_MESSAGE_BYTES] = body.try_into().map_err(|_| FrameError::Malformed)?;
        let keys = self.initiator.finish(message).map_err(|_| LinkError::Authentication)?;
        Ok(Some((header.length, LinkSession::new(End::Node, &keys, header.version, self.limit))))
    }
}

/// A hello as the hub reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkHello {
    /// What the node says of itself.
    pub introduction: LinkIntroduction,
    /// The highest version that both ends understand.
    pub version: u8,
    raw: [u8; HELLO_BYTES],
}

impl LinkHello {
    /// Reads the hello at the front of `bytes` and returns its length too; `None` while it is incomplete.
    ///
    /// # Errors
    /// What the peer did wrong: `Frame` with `Kind` for another protocol's frame, with `Version` if no version is common;
    /// `OutOfOrder` if it is no hello; `Protocol`, `Suite`.
    pub fn read(bytes: &[u8]) -> Result<Option<(usize, Self)>, LinkError> {
        let Some(header) = FrameHeader::parse(bytes)? else { return Ok(None) };
        match header.kind {
            FrameKind::Hello => {}
            FrameKind::Error => {
                return Err(LinkError::Refused(read_error(&bytes[HEADER_BYTES..header.length])?));
            }
            FrameKind::Handshake | FrameKind::Sealed => return Err(LinkError::OutOfOrder),
        }
        let mut raw = [0; HELLO_BYTES];
        raw.copy_from_slice(&bytes[..HELLO_BYTES]);
        Ok(Some((HELLO_BYTES, Self::parse(raw)?)))
    }

    /// Makes the handshake and returns the hub's frame too.
    ///
    /// For a node that is not known, give a random key: the outcome is then the same as for a wrong key. `random` must be
    /// fresh for every call. Nothing may change on behalf of the node before its first sealed frame opens, because a hello
    /// can be replayed. `limit` is for what the node will send.
    ///
    /// # Errors
    /// [`LinkError::Authentication`] if the node does not know `psk`.
    pub fn accept(
        &self,
        psk: &[u8; 32],
        random: &[u8; 32],
        limit: MessageLimit,
    ) -> Result<(LinkSession, [u8; HANDSHAKE_BYTES]), LinkError> {
        let (prologue, message) = self.raw.split_at(PROLOGUE_BYTES);
        let message: &[u8; NOISE_MESSAGE_BYTES] =
            message.try_into().expect("HELLO_BYTES leaves exactly that");
        let (answer, keys) = noise::respond(Suite::AesGcm, prologue, psk, random, message)
            .map_err(|_| LinkError::Authentication)?;
        let header =
            FrameHeader { length: HANDSHAKE_BYTES, kind: FrameKind::Handshake, version: self.version };
        let mut frame = [0; HANDSHAKE_BYTES];
        frame[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        frame[HEADER_BYTES..].copy_from_slice(&answer);
        Ok((LinkSession::new(End::Hub, &keys, self.version, limit), frame))
    }

    fn parse(raw: [u8; HELLO_BYTES]) -> Result<Self, LinkError> {
        let mut reader = Reader::new(&raw[HEADER_BYTES..]);
        if reader.array()? != *MAGIC {
            return Err(LinkError::Protocol);
        }
        let (version_min, version_max) = (reader.u8()?, reader.u8()?);
        if version_min > version_max {
            return Err(FrameError::Malformed.into());
        }
        let version = version_max.min(VERSION_MAX);
        if version < version_min.max(VERSION_MIN) {
            return Err(FrameError::Version.into());
        }
        if reader.u8()? != Suite::AesGcm as u8 {
            return Err(LinkError::Suite);
        }
        let role = reader.coded(Role::from_byte)?;
        let node = SellerId(reader.u32()?);
        let channel = reader.coded(Channel::from_byte)?;
        reader.zeros(1)?;
        let (workers, link_id) = (reader.u16()?, reader.u64()?);
        let introduction = LinkIntroduction { node, role, channel, workers, link_id };
        Ok(Self { introduction, version, raw })
    }
}

/// What a link's hello begins with, after the header.
const MAGIC: &[u8; 4] = b"link";
