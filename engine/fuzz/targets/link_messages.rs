//! Bytes as messages between hub and node, of either direction: what is understood is written and read again as the same.

use bytes::Bytes;
use engine::link::{LinkMessage, ToHub, ToNode};

/// The kind, and then the body.
pub(crate) fn run(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first_chunk() else { return };
    let kind = u16::from_le_bytes(*kind);
    message::<ToHub>(kind, body);
    message::<ToNode>(kind, body);
}

fn message<M: LinkMessage>(kind: u16, body: &[u8]) {
    if M::bytes_max(kind).is_none_or(|max| body.len() > max) {
        return;
    }
    let Ok(message) = M::decode(kind, Bytes::copy_from_slice(body)) else { return };
    let first = message.encode();
    assert_eq!(first.kind, kind);
    let whole = [&first.head[..], &first.tail[..]].concat();
    let Ok(again) = M::decode(kind, Bytes::from(whole.clone())) else {
        panic!("kind {kind:#x} is not read again")
    };
    let second = again.encode();
    assert_eq!([&second.head[..], &second.tail[..]].concat(), whole, "kind {kind:#x}");
    assert!(M::bytes_max(kind).is_some_and(|max| whole.len() <= max), "kind {kind:#x} became too long");
}
