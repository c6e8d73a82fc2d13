use super::*;
use crate::ids::{BatchId, BlockId, Span, VarietyId};
use crate::link::{Child, ChildStanding, Offer, Report, StockReport};
use crate::policy::{Levels, Rate};
use crate::registry::{Delta, Registry, TerminalKey};
use crate::stock::{BlockProperties, Expiry};
use proptest::prelude::*;
use std::fmt::Debug;

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![Just(Stream::Bulk), Just(Stream::Urgent)]
}

prop_compose! {
    fn offer()(
        stream in stream(),
        [number, settled_below, request, batch, checksum] in any::<[u64; 5]>(),
        [generation, variety, expiry, block_count, bytes] in any::<[u32; 5]>(),
        blocks in [0_u64..1 << 48, 0..1 << 48],
        (start, length) in (0_u32..65_000, 1_u32..536),
        key in any::<[u8; 30]>(),
    ) -> Offer {
        let span = Span { block: BlockId(blocks[0]), start, end: start + length };
        let mut wrapped_key = [7; 60];
        wrapped_key[..30].copy_from_slice(&key);
        let properties = BlockProperties {
            block: BlockId(blocks[1]),
            variety: VarietyId(variety),
            batch: BatchId(batch),
            expiry: Expiry(expiry),
        };
        Offer {
            stream, number, settled_below, request, span, generation, properties, block_count, wrapped_key, bytes, checksum,
        }
    }
}

prop_compose! {
    fn stock()(
        variety in any::<u32>(),
        [on_hand, recalling, rate, sold_total] in any::<[u64; 4]>(),
        room in any::<Option<u64>>(),
        mut marks in any::<[u64; 3]>(),
    ) -> StockReport {
        marks.sort_unstable();
        let levels = Levels::new(marks[0], marks[1].max(1), marks[2].max(1)).unwrap();
        StockReport { variety: VarietyId(variety), on_hand, recalling, room, rate: Rate(rate), levels, sold_total }
    }
}

fn content() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn to_hub() -> impl Strategy<Value = ToHub> {
    let goes = |message: &ToHub| {
        matches!(
            message,
            ToHub::Hello { .. }
                | ToHub::Report(_)
                | ToHub::Journal { .. }
                | ToHub::RegistryHeld { .. }
                | ToHub::Farewell { .. }
        )
    };
    let envelope = (any::<u32>(), plain_to_hub().prop_filter("does not go in an envelope", goes));
    prop_oneof![
        4 => plain_to_hub(),
        1 => envelope.prop_map(|(node, message)| ToHub::Below { node: SellerId(node), message: Box::new(message) }),
        1 => any::<u32>().prop_map(|node| ToHub::BelowGone { node: SellerId(node) }),
    ]
}

fn plain_to_hub() -> impl Strategy<Value = ToHub> {
    prop_oneof![
        any::<(u32, u64, u64, u64, u16, u64, u64)>().prop_map(
            |(node, hub_epoch, journal_from, journal_mark, workers, registry_version, registry_digest)| {
                let node = SellerId(node);
                ToHub::Hello {
                    node,
                    hub_epoch,
                    journal_from,
                    journal_mark,
                    workers,
                    registry_version,
                    registry_digest,
                }
            }
        ),
        (any::<(u64, u32)>(), proptest::collection::vec(stock(), 0..5)).prop_map(
            |((journal_end, returns_open), stock)| {
                ToHub::Report(Report { journal_end, returns_open, stock })
            }
        ),
        any::<(u64, u32, u32)>().prop_map(|(request, v, count)| ToHub::Need {
            request,
            variety: VarietyId(v),
            count
        }),
        any::<(u64, u32)>().prop_map(|(request, v)| ToHub::Urgent { request, variety: VarietyId(v) }),
        (stream(), any::<u64>(), any::<u32>()).prop_map(|(stream, number, bytes)| ToHub::Progress {
            stream,
            number,
            bytes
        }),
        (stream(), any::<u64>(), any::<bool>()).prop_map(|(stream, number, accepted)| ToHub::Answer {
            stream,
            number,
            accepted
        }),
        (any::<u64>(), content()).prop_map(|(from, bytes)| ToHub::Journal { from, bytes }),
        offer().prop_map(ToHub::Offer),
        Just(ToHub::Ready),
        any::<(u64, u32)>().prop_map(|(recall, count)| ToHub::Recalled { recall, count }),
        any::<(u64, u64)>().prop_map(|(version, digest)| ToHub::RegistryHeld { version, digest }),
        any::<u64>().prop_map(|journal_end| ToHub::Farewell { journal_end }),
    ]
}

fn child() -> impl Strategy<Value = Child> {
    let standing = (0_u8..4).prop_map(|byte| ChildStanding::from_byte(byte).unwrap());
    let fields = (any::<u32>(), "[a-zé]{0,20}", any::<[u8; 32]>(), standing, any::<u64>());
    fields.prop_map(|(node, name, key, standing, given)| {
        let (node, key) = (SellerId(node), TerminalKey::new(key));
        Child { node, name, key, standing, given }
    })
}

fn to_node() -> impl Strategy<Value = ToNode> {
    let goes = prop_oneof![
        any::<u64>().prop_map(|position| ToNode::JournalAcked { position }),
        Just(ToNode::Farewell),
        Just(ToNode::Closed),
        Just(ToNode::OldCopy),
    ];
    prop_oneof![
        4 => plain_to_node(),
        1 => (any::<u32>(), goes)
            .prop_map(|(node, message)| ToNode::Below { node: SellerId(node), message: Box::new(message) }),
        1 => proptest::collection::vec(child(), 0..4).prop_map(|all| ToNode::Children(Arc::new(all))),
    ]
}

fn plain_to_node() -> impl Strategy<Value = ToNode> {
    prop_oneof![
        any::<(u64, u32, u64)>().prop_map(|(hub_epoch, pending, journal_acked)| ToNode::Welcome {
            hub_epoch,
            pending,
            journal_acked
        }),
        Just(ToNode::Ready),
        offer().prop_map(ToNode::Offer),
        (stream(), any::<u64>(), any::<u32>(), content())
            .prop_map(|(stream, number, offset, bytes)| ToNode::Chunk { stream, number, offset, bytes }),
        (stream(), any::<u64>(), any::<u32>()).prop_map(|(stream, request, granted)| ToNode::Answered {
            stream,
            request,
            granted
        }),
        any::<u32>().prop_map(|v| ToNode::StockArrived { variety: VarietyId(v) }),
        any::<u64>().prop_map(|position| ToNode::JournalAcked { position }),
        Just(ToNode::Registry(Arc::new(crate::registry::tests::sample()))),
        (any::<u64>(), any::<u64>()).prop_map(|(from, digest)| {
            let sample = crate::registry::tests::sample();
            ToNode::RegistryDelta(Arc::new(Delta {
                from,
                to: from.wrapping_add(1),
                digest,
                varieties: sample.varieties().cloned().collect(),
                dealers: sample.dealers().cloned().collect(),
                terminals: sample.terminals().to_vec(),
                managers: sample.managers().cloned().collect(),
            }))
        }),
        any::<(u64, u32, u32)>().prop_map(|(recall, v, count)| ToNode::Recall {
            recall,
            variety: VarietyId(v),
            count
        }),
        (stream(), any::<u64>(), any::<u32>()).prop_map(|(stream, number, bytes)| ToNode::Progress {
            stream,
            number,
            bytes
        }),
        (stream(), any::<u64>(), any::<bool>()).prop_map(|(stream, number, accepted)| ToNode::Answer {
            stream,
            number,
            accepted
        }),
        any::<bool>().prop_map(|on| ToNode::Drain { on }),
        Just(ToNode::Lost),
        Just(ToNode::Closed),
        Just(ToNode::Farewell),
        Just(ToNode::OldCopy),
    ]
}

/// Comes back as it went, within its limit, and as nothing else.
fn check<M: LinkMessage + Debug>(message: &M) {
    let encoded = message.encode();
    let bytes_max = M::bytes_max(encoded.kind).unwrap();
    assert!(encoded.len() <= bytes_max, "{} > {bytes_max}", encoded.len());
    let body = [&encoded.head[..], &encoded.tail].concat();
    let decoded = M::decode(encoded.kind, Bytes::from(body.clone())).unwrap();
    assert_eq!(format!("{decoded:?}"), format!("{message:?}"));
    assert_eq!(decoded.channel(), message.channel());
    let is_open_ended = body.get(4..6).is_some_and(|kind| kind == JOURNAL.to_le_bytes());
    let ends_anywhere = [JOURNAL, CHUNK, REGISTRY, REGISTRY_DELTA].contains(&encoded.kind);
    if !(ends_anywhere || encoded.kind == BELOW_UP && is_open_ended) {
        for end in 0..body.len() {
            assert!(M::decode(encoded.kind, Bytes::copy_from_slice(&body[..end])).is_err(), "cut at {end}");
        }
        assert!(M::decode(encoded.kind, [&body[..], &[0]].concat().into()).is_err(), "longer");
    }
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_went(up in to_hub(), down in to_node()) {
        check(&up);
        check(&down);
    }

    #[test]
    fn no_bytes_make_decoding_panic(kind in prop_oneof![0_u16..0x20, 0x100_u16..0x120], bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        let _ = ToHub::decode(kind, bytes.clone());
        let _ = ToNode::decode(kind, bytes);
    }

    /// Bytes that are nearly a message.
    #[test]
    fn no_altered_message_makes_decoding_panic(up in to_hub(), down in to_node(), at: usize, bit in 0_u32..8) {
        for (encoded, is_up) in [(up.encode(), true), (down.encode(), false)] {
            let mut body = [&encoded.head[..], &encoded.tail].concat();
            if body.is_empty() { continue }
            let at = at % body.len();
            body[at] ^= 1 << bit;
            if is_up { let _ = ToHub::decode(encoded.kind, body.into()); }
            else if let Ok(ToNode::Offer(offer)) = ToNode::decode(encoded.kind, body.into()) {
                let _ = offer.span.len();
            }
        }
    }
}

#[test]
fn a_count_is_not_believed() {
    let mut body = [0; 16];
    body[12..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(ToHub::decode(REPORT, Bytes::copy_from_slice(&body)).is_err());
}

#[test]
fn content_is_not_copied() {
    let content = Bytes::from(vec![3; 1000]);
    let at = content.as_ptr();
    let chunk = ToNode::Chunk { stream: Stream::Bulk, number: 1, offset: 0, bytes: content };
    let encoded = chunk.encode();
    assert_eq!(encoded.tail.as_ptr(), at);
    let body = Bytes::from([&encoded.head[..], &encoded.tail].concat());
    let range = body.as_ptr_range();
    let ToNode::Chunk { bytes, .. } = ToNode::decode(CHUNK, body).unwrap() else { panic!("a chunk") };
    assert!(range.contains(&bytes.as_ptr()));
}

#[test]
fn kinds_have_no_gaps_and_each_direction_its_own() {
    for kind in 0..0x200 {
        let (up, down) = (ToHub::bytes_max(kind).is_some(), ToNode::bytes_max(kind).is_some());
        assert_eq!(up, (HELLO..=BELOW_GONE).contains(&kind), "{kind:#x}");
        assert_eq!(down, (WELCOME..=BELOW_DOWN).contains(&kind), "{kind:#x}");
    }
    let registry = ToNode::Registry(Arc::new(Registry::default()));
    assert!(ToHub::decode(registry.encode().kind, Bytes::new()).is_err());
}

#[test]
fn an_envelope_holds_what_goes_through_a_server_and_no_other_envelope() {
    let node = SellerId(3);
    let put = |message| ToHub::Below { node, message: Box::new(message) }.encode();
    let open =
        |Encoded { kind, head, tail }: Encoded| ToHub::decode(kind, [&head[..], &tail].concat().into());
    assert!(open(put(ToHub::RegistryHeld { version: 1, digest: 2 })).is_ok());
    assert!(open(put(ToHub::Ready)).is_err());
    assert!(open(put(ToHub::Urgent { request: 1, variety: VarietyId(1) })).is_err());
    assert!(open(put(ToHub::Below { node, message: Box::new(ToHub::Ready) })).is_err());
    let range = ToHub::Journal { from: 0, bytes: Bytes::from(vec![0; RANGE_BYTES_MAX + 1]) };
    assert!(open(put(range)).is_err(), "longer than a message of that kind");
}

#[test]
fn what_must_stay_behind_a_bulk_offer_travels_with_it() {
    let answered = |stream, granted| ToNode::Answered { stream, request: 1, granted }.channel();
    assert_eq!(answered(Stream::Urgent, 1), Channel::Control);
    assert_eq!(answered(Stream::Urgent, 0), Channel::Bulk, "the last PINs may be on their way to this node");
    assert_eq!(answered(Stream::Bulk, 5), Channel::Bulk);
    assert_eq!(ToNode::Ready.channel(), Channel::Bulk);
    assert_eq!(ToNode::StockArrived { variety: VarietyId(1) }.channel(), Channel::Bulk);
}
