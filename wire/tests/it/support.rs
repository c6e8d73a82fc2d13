//! Sessions and messages that several tests need.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::message::*;
use wire::session::{
    Acceptor, HANDSHAKE_BYTES, HELLO_BYTES, HandshakeInbound, Mode, SellerSession, Suite, TerminalHandshake,
    TerminalSession,
};
use wire::settlement::{SOLD_BOX_BYTES_MAX, SoldBox};

pub(crate) const KEY: [u8; 32] = [0x4b; 32];
pub(crate) const TERMINAL: TerminalId = TerminalId(0x0102_0304_0506_0708);
pub(crate) const EPOCH: KeyEpoch = KeyEpoch(3);
pub(crate) const VARIANTS: [(Suite, Mode); 4] = [
    (Suite::AesGcm, Mode::Sealed),
    (Suite::ChaChaPoly, Mode::Sealed),
    (Suite::AesGcm, Mode::Clear),
    (Suite::ChaChaPoly, Mode::Clear),
];

/// A terminal's hello, and the machine that waits for the answer.
pub(crate) fn hello(suite: Suite, mode: Mode, key: &[u8; 32]) -> (TerminalHandshake, [u8; HELLO_BYTES]) {
    let mut frame = [0; HELLO_BYTES];
    let (handshake, length) =
        TerminalHandshake::start(TERMINAL, EPOCH, suite, mode, key, &[0x11; 32], &mut frame);
    assert_eq!(length, HELLO_BYTES);
    (handshake, frame)
}

/// Both ends of a session after the handshake.
pub(crate) fn pair(suite: Suite, mode: Mode) -> (TerminalSession, SellerSession) {
    let (mut handshake, frame) = hello(suite, mode, &KEY);
    let acceptor = Acceptor::new(true);
    let (consumed, hello) = acceptor.hello(&frame).unwrap().unwrap();
    assert_eq!(consumed, frame.len());
    let mut answer = [0; HANDSHAKE_BYTES];
    let (seller, length) = acceptor.accept(&hello, &KEY, &[0x22; 32], &mut answer).unwrap();
    assert_eq!(length, HANDSHAKE_BYTES);
    match handshake.receive(&answer).unwrap() {
        Some((HANDSHAKE_BYTES, HandshakeInbound::Session(terminal))) => (terminal, seller),
        other => panic!("no session: {other:?}"),
    }
}

/// A welcome without addresses.
pub(crate) fn welcome() -> Reply {
    Reply::Welcome(Box::new(Welcome {
        seller: SellerId(7),
        key_epoch: EPOCH,
        next_sequence: 12,
        window_base: 10,
        window: 64,
        ping_interval_s: 60,
        back_off_min_ms: 500,
        back_off_max_ms: 30_000,
        catalogue_version: 5,
        addresses: Addresses::default(),
    }))
}

pub(crate) fn text<const N: usize>() -> impl Strategy<Value = Text<N>> {
    proptest::collection::vec(any::<u8>(), 0..=N).prop_map(|bytes| Text::new(&bytes).unwrap())
}

fn coded<T: core::fmt::Debug>(from_byte: fn(u8) -> Option<T>) -> impl Strategy<Value = T> {
    (0..16u8).prop_filter_map("a code", from_byte)
}

fn addresses() -> impl Strategy<Value = Addresses> {
    proptest::collection::vec(any::<([u8; 16], u16)>(), 0..=ADDRESSES_MAX).prop_map(|list| {
        let mut addresses = Addresses { count: u8::try_from(list.len()).unwrap(), ..Addresses::default() };
        addresses.list[..list.len()].copy_from_slice(&list);
        addresses
    })
}

/// Any request.
pub(crate) fn request() -> impl Strategy<Value = Request> {
    let login = proptest::collection::vec(any::<(u32, u64)>(), 0..=UNRESOLVED_MAX).prop_map(|pairs| {
        let mut login = Login { count: u8::try_from(pairs.len()).unwrap(), ..Login::EMPTY };
        for (place, (seller, sequence)) in login.unresolved.iter_mut().zip(pairs) {
            *place = (SellerId(seller), sequence);
        }
        Request::Login(Box::new(login))
    });
    let vend = (coded(Attempt::from_byte), any::<(u64, u32, u64, u32, u64)>()).prop_map(
        |(attempt, (sequence, product, face_value, deadline_ms, confirmed))| {
            Request::Vend(Vend { attempt, sequence, product, face_value, deadline_ms, confirmed })
        },
    );
    prop_oneof![
        login,
        vend,
        any::<u16>().prop_map(|from| Request::Catalogue { from }),
        any::<u64>().prop_map(|sequence| Request::Confirm { sequence }),
        any::<u64>().prop_map(|sequence| Request::Void { sequence }),
        any::<u64>().prop_map(|sequence| Request::Status { sequence }),
        any::<u64>().prop_map(|sequence| Request::Reprint { sequence }),
        (any::<(u32, u64)>(), coded(SettleAction::from_byte), coded(Suite::from_byte)).prop_map(
            |((seller, sequence), action, suite)| {
                Request::Settle(Settle { seller: SellerId(seller), sequence, action, suite })
            }
        ),
    ]
}

/// Any reply but a welcome.
pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let outcome = (any::<(u32, u64, u64)>(), coded(SequenceState::from_byte)).prop_map(
        |((seller, sequence, reference), state)| Outcome {
            seller: SellerId(seller),
            sequence,
            state,
            reference,
        },
    );
    let resolved = proptest::collection::vec(outcome, 0..=UNRESOLVED_MAX).prop_map(|list| {
        let mut resolved = Resolved { count: u8::try_from(list.len()).unwrap(), ..Resolved::EMPTY };
        resolved.outcomes[..list.len()].copy_from_slice(&list);
        Reply::Resolved(Box::new(resolved))
    });
    let entry = (any::<(u32, u64, [u8; 3], u8, bool)>(), coded(Charset::from_byte), text(), text()).prop_map(
        |((product, face_value, currency, currency_digits, available), charset, name, receipt)| {
            CatalogueEntry {
                product,
                face_value,
                currency,
                currency_digits,
                available,
                charset,
                name,
                receipt,
            }
        },
    );
    let page = (any::<(u32, u16, u16)>(), proptest::collection::vec(entry, 0..=CATALOGUE_ENTRIES_MAX))
        .prop_map(|((version, total, from), list)| {
            let mut entries = [CatalogueEntry::EMPTY; CATALOGUE_ENTRIES_MAX];
            entries[..list.len()].copy_from_slice(&list);
            Reply::Catalogue(Box::new(CataloguePage {
                version,
                total,
                from,
                count: u8::try_from(list.len()).unwrap(),
                entries,
            }))
        });
    let sold = (any::<(u64, u64, u16, u32)>(), text(), text()).prop_map(
        |((sequence, reference, copy, expiry), pin, serial)| {
            Reply::Sold(Sold { sequence, reference, copy, expiry, pin, serial })
        },
    );
    prop_oneof![
        resolved,
        page,
        sold,
        (any::<u64>(), coded(DeclineReason::from_byte))
            .prop_map(|(sequence, reason)| Reply::Declined { sequence, reason }),
        (any::<(u64, u32, u64)>(), coded(LaterReason::from_byte)).prop_map(
            |((sequence, wait_ms, reference), reason)| Reply::Later { sequence, reason, wait_ms, reference }
        ),
        (any::<u64>(), coded(RefuseReason::from_byte))
            .prop_map(|(sequence, reason)| Reply::Refused { sequence, reason }),
        (any::<(u64, u64)>(), coded(SequenceState::from_byte))
            .prop_map(|((sequence, reference), state)| Reply::State { sequence, state, reference }),
        (any::<(u32, u64, u64)>(), coded(SequenceState::from_byte), vec(any::<u8>(), 0..=SOLD_BOX_BYTES_MAX))
            .prop_map(|((seller, sequence, reference), state, sealed)| {
                let sealed = SoldBox::from_bytes(&sealed).unwrap();
                let seller = SellerId(seller);
                Reply::Settled(Box::new(Settled { seller, sequence, state, reference, sealed }))
            }),
    ]
}

/// A welcome with any fields.
pub(crate) fn any_welcome() -> impl Strategy<Value = Reply> {
    (any::<(u32, u32, u64, u64, u8, u16)>(), any::<(u32, u32, u32)>(), addresses()).prop_map(
        |(
            (seller, epoch, next_sequence, window_base, window, ping_interval_s),
            (back_off_min_ms, back_off_max_ms, catalogue_version),
            addresses,
        )| {
            Reply::Welcome(Box::new(Welcome {
                seller: SellerId(seller),
                key_epoch: KeyEpoch(epoch),
                next_sequence,
                window_base,
                window,
                ping_interval_s,
                back_off_min_ms,
                back_off_max_ms,
                catalogue_version,
                addresses,
            }))
        },
    )
}
