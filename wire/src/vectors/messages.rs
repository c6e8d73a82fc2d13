//! Every message and every code, in inner form and as a clear frame; connection frames; and frames that are wrong.

use std::boxed::Box;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use serde_json::{Value, json};

use super::{Vector, golden, hex, number, unhex};
use crate::codec::{add_trailer, check_trailer, decode_reply, decode_request, encode_reply, encode_request};
use crate::control::{self, Bye, ByeReason, Control, ErrorCode, decode_control};
use crate::frame::{FRAME_BYTES_MAX, HEADER_BYTES, Header};
use crate::message::*;
use crate::session::{Acceptor, Mode, SellerSession, Suite, TerminalHandshake};
use crate::settlement::SoldBox;

#[test]
fn requests_are_as_the_vectors_say() {
    let requests = requests();
    let vectors: Vec<Vector> = (1..)
        .zip(&requests)
        .map(|(correlation, (name, request))| {
            let mut out = [0; FRAME_BYTES_MAX];
            let length = encode_request(correlation, request, &mut out);
            message(name, correlation, request_fields(request), length, &mut out)
        })
        .collect();
    let about = "Terminal to seller. `inner` is the message's header and body, as a sealed frame holds it; `clear` is \
                 the frame in clear mode, with its checksum.";
    for (vector, (_, request)) in golden("requests.json", about, &vectors).iter().zip(&requests) {
        let (correlation, found) = decode_request(&unhex(&vector["inner"])).unwrap();
        assert_eq!((json!(correlation), &found), (vector["correlation"].clone(), request));
        check_trailer(&unhex(&vector["clear"])).unwrap();
    }
}

#[test]
fn replies_are_as_the_vectors_say() {
    let replies = replies();
    let vectors: Vec<Vector> = (1..)
        .zip(&replies)
        .map(|(correlation, (name, reply))| {
            let correlation = if matches!(reply, Reply::Welcome(_)) { 0 } else { correlation };
            let mut out = [0; FRAME_BYTES_MAX];
            let length = encode_reply(correlation, reply, &mut out);
            message(name, correlation, reply_fields(reply), length, &mut out)
        })
        .collect();
    let about = "Seller to terminal. `inner` is the message's header and body, as a sealed frame holds it; `clear` is \
                 the frame in clear mode, with its checksum. Texts are given as hex.";
    for (vector, (_, reply)) in golden("replies.json", about, &vectors).iter().zip(&replies) {
        let (correlation, found) = decode_reply(&unhex(&vector["inner"])).unwrap();
        assert_eq!((json!(correlation), &found), (vector["correlation"].clone(), reply));
        check_trailer(&unhex(&vector["clear"])).unwrap();
    }
}

#[test]
fn connection_frames_are_as_the_vectors_say() {
    let controls = controls();
    let vectors: Vec<Vector> = controls
        .iter()
        .map(|control| {
            let mut out = [0; control::CONTROL_BYTES_MAX];
            let (name, fields, length) = match control {
                Control::Ping { correlation } => {
                    let length = control::encode_ping(*correlation, &mut out);
                    (String::from("ping"), json!({ "correlation": correlation }), length)
                }
                Control::Pong { correlation } => {
                    let length = control::encode_pong(*correlation, &mut out);
                    (String::from("pong"), json!({ "correlation": correlation }), length)
                }
                Control::Bye(bye) => {
                    let addresses = addresses(&bye.addresses);
                    let fields =
                        json!({ "reason": bye.reason as u8, "wait_ms": bye.wait_ms, "addresses": addresses });
                    (format!("bye {:?}", bye.reason), fields, control::encode_bye(bye, &mut out))
                }
                Control::Error(notice) => {
                    let fields = json!({
                        "code": notice.code as u8, "version_min": notice.version_min, "version_max": notice.version_max
                    });
                    (format!("error {:?}", notice.code), fields, control::encode_error(notice.code, &mut out))
                }
            };
            vec![("name", json!(name)), ("fields", fields), ("frame", hex(&out[..length]))]
        })
        .collect();
    let about = "Frames of either side that belong to the TCP connection: always clear, without checksum.";
    for (vector, control) in golden("connection.json", about, &vectors).iter().zip(&controls) {
        let frame = unhex(&vector["frame"]);
        let header = Header::parse(&frame, 0).unwrap().unwrap();
        assert_eq!(decode_control(&header, &frame[HEADER_BYTES..]), Ok(control.clone()));
    }
}

#[test]
fn wrong_frames_are_answered_as_the_vectors_say() {
    let mut clear = [0; FRAME_BYTES_MAX];
    let inner = encode_request(9, &Request::Status { sequence: 5 }, &mut clear);
    let length = add_trailer(inner, &mut clear);
    let status = &clear[..length];
    let with = |changes: &[(usize, u8)]| {
        let mut frame = Vec::from(status);
        changes.iter().for_each(|(place, byte)| frame[*place] = *byte);
        frame
    };
    // The same with a checksum that is right.
    let resealed = |changes: &[(usize, u8)], length: usize| {
        let mut frame = with(changes);
        frame.resize(length.max(frame.len()), 0);
        frame.truncate(length);
        frame.extend([0; 4]);
        add_trailer(length, &mut frame);
        frame
    };
    let mut vend = [0; FRAME_BYTES_MAX];
    let Request::Vend(first) = requests()[2].1 else { unreachable!("the third request is a vend") };
    let vend_length = encode_request(9, &Request::Vend(first), &mut vend);
    vend[vend_length - 1] = 3;
    let vend_length = add_trailer(vend_length, &mut vend);
    let mut login = [0; FRAME_BYTES_MAX];
    let login_length = encode_request(9, &Request::Login(Box::new(Login::EMPTY)), &mut login);
    let login_length = add_trailer(login_length, &mut login);
    let cases: Vec<(&str, Vec<u8>, Option<ErrorCode>)> = vec![
        ("a correct status, for comparison", with(&[]), None),
        ("its first half: incomplete, wait for more", Vec::from(&status[..10]), None),
        ("shorter than a header", with(&[(0, 7)]), Some(ErrorCode::Malformed)),
        ("longer than 512, judged by two bytes", vec![0x01, 0x02], Some(ErrorCode::TooLarge)),
        (
            "longer than a status may be, judged by four bytes",
            vec![21, 0, 0x15, 1],
            Some(ErrorCode::TooLarge),
        ),
        ("shorter than a status must be", with(&[(0, 19)]), Some(ErrorCode::Malformed)),
        ("version 0", with(&[(3, 0)]), Some(ErrorCode::Version)),
        ("version 2", with(&[(3, 2)]), Some(ErrorCode::Version)),
        (
            "version 2 of a kind that does not exist: the version decides",
            with(&[(2, 0x7f), (3, 2)]),
            Some(ErrorCode::Version),
        ),
        ("a kind that does not exist", with(&[(2, 0x7f)]), Some(ErrorCode::Kind)),
        ("a sealed frame in clear mode", sealed_looking(), Some(ErrorCode::Kind)),
        ("a reply", resealed(&[(2, 0x26)], 17), Some(ErrorCode::Kind)),
        ("a flag", with(&[(4, 1)]), Some(ErrorCode::Flags)),
        ("a wrong checksum", with(&[(19, status[19] ^ 1)]), Some(ErrorCode::Checksum)),
        ("a code that does not exist", Vec::from(&vend[..vend_length]), Some(ErrorCode::Malformed)),
        ("a second login", Vec::from(&login[..login_length]), Some(ErrorCode::OutOfOrder)),
        ("a second hello", hello_frame(), Some(ErrorCode::OutOfOrder)),
    ];
    let vectors: Vec<Vector> = cases
        .iter()
        .map(|(name, frame, code)| {
            let mut seller = clear_seller();
            let received = seller.receive(&mut frame.clone());
            assert_eq!(received.err().map(crate::session::SessionError::code), *code, "{name}");
            vec![("name", json!(name)), ("frame", hex(frame)), ("code", json!(code.map(|code| code as u8)))]
        })
        .collect();
    let about = "What a seller in clear mode, after the login, answers by an error with this code and closes; null: no \
                 error.";
    golden("wrong.json", about, &vectors);
}

fn message(name: &str, correlation: u16, fields: Value, length: usize, out: &mut [u8]) -> Vector {
    let inner = hex(&out[..length]);
    let kind = format!("0x{:02x}", out[2]);
    let clear_length = add_trailer(length, out);
    vec![
        ("name", json!(name)),
        ("kind", json!(kind)),
        ("correlation", json!(correlation)),
        ("fields", fields),
        ("inner", inner),
        ("clear", hex(&out[..clear_length])),
    ]
}

fn hello_frame() -> Vec<u8> {
    let mut frame = vec![0; crate::session::HELLO_BYTES];
    let (terminal, epoch) = (TerminalId(1), KeyEpoch(1));
    let _ =
        TerminalHandshake::start(terminal, epoch, Suite::AesGcm, Mode::Clear, &[1; 32], &[2; 32], &mut frame);
    frame
}

fn clear_seller() -> SellerSession {
    let acceptor = Acceptor::new(true);
    let (_, hello) = acceptor.hello(&hello_frame()).unwrap().unwrap();
    let (mut seller, _) = acceptor.accept(&hello, &[1; 32], &[3; 32], &mut [0; 64]).unwrap();
    let mut login = [0; FRAME_BYTES_MAX];
    let length = encode_request(1, &Request::Login(Box::new(Login::EMPTY)), &mut login);
    let length = add_trailer(length, &mut login);
    seller.receive(&mut login[..length]).unwrap();
    seller
}

fn sealed_looking() -> Vec<u8> {
    let mut frame = vec![40, 0, 0x0f, 0, 0, 0, 0, 0];
    frame.resize(40, 0xab);
    frame
}

fn requests() -> Vec<(&'static str, Request)> {
    let mut some = Login { count: 2, ..Login::EMPTY };
    some.unresolved[0] = (SellerId(7), 12);
    some.unresolved[1] = (SellerId(9), 3);
    let mut full = Login { count: 16, ..Login::EMPTY };
    for (place, n) in full.unresolved.iter_mut().zip(1..) {
        *place = (SellerId(n), u64::from(n) << 32);
    }
    let vend = Vend {
        attempt: Attempt::First,
        sequence: 13,
        product: 1001,
        face_value: 5000,
        deadline_ms: 20_000,
        confirmed: 0b101,
    };
    vec![
        ("login with nothing unresolved", Request::Login(Box::new(Login::EMPTY))),
        ("login with two unresolved sequences", Request::Login(Box::new(some))),
        ("vend, first attempt, confirming 12 and 10", Request::Vend(vend)),
        ("vend, repeated", Request::Vend(Vend { attempt: Attempt::Repeat, confirmed: u64::MAX, ..vend })),
        ("login with sixteen", Request::Login(Box::new(full))),
        ("catalogue from the start", Request::Catalogue { from: 0 }),
        ("catalogue from 258", Request::Catalogue { from: 258 }),
        ("confirm", Request::Confirm { sequence: 13 }),
        ("void", Request::Void { sequence: 14 }),
        ("status", Request::Status { sequence: 0x0807_0605_0403_0201 }),
        ("reprint", Request::Reprint { sequence: 13 }),
        (
            "settle, the PIN of another seller",
            Request::Settle(Settle {
                seller: SellerId(9),
                sequence: 3,
                action: SettleAction::Pin,
                suite: crate::session::Suite::ChaChaPoly,
            }),
        ),
    ]
}

fn replies() -> Vec<(String, Reply)> {
    let mut list: Vec<(String, Reply)> = Vec::new();
    let mut add = |name: &str, reply| list.push((name.into(), reply));
    let addresses = two_addresses();
    let welcome = Welcome {
        seller: SellerId(7),
        key_epoch: KeyEpoch(3),
        next_sequence: 13,
        window_base: 11,
        window: 64,
        ping_interval_s: 60,
        back_off_min_ms: 500,
        back_off_max_ms: 30_000,
        catalogue_version: 42,
        addresses: Addresses::default(),
    };
    add("welcome", Reply::Welcome(Box::new(welcome)));
    add("welcome with two other addresses", Reply::Welcome(Box::new(Welcome { addresses, ..welcome })));
    add("resolved, nothing", Reply::Resolved(Box::new(Resolved::EMPTY)));
    let outcome =
        |seller, sequence, state, reference| Outcome { seller: SellerId(seller), sequence, state, reference };
    let mut resolved = Resolved { count: 2, ..Resolved::EMPTY };
    resolved.outcomes[0] = outcome(7, 12, SequenceState::Sold, 65_541);
    resolved.outcomes[1] = outcome(9, 3, SequenceState::InDoubt, 0);
    add("resolved, two", Reply::Resolved(Box::new(resolved)));
    let mut resolved = Resolved { count: 16, ..Resolved::EMPTY };
    for (place, n) in resolved.outcomes.iter_mut().zip(1..) {
        *place = outcome(n, u64::from(n) << 32, SequenceState::Confirmed, u64::from(n) << 16);
    }
    add("resolved, sixteen", Reply::Resolved(Box::new(resolved)));
    add(
        "catalogue page, empty",
        Reply::Catalogue(Box::new(CataloguePage {
            version: 42,
            total: 0,
            from: 0,
            count: 0,
            entries: [CatalogueEntry::EMPTY; 2],
        })),
    );
    let entry = CatalogueEntry {
        product: 1001,
        face_value: 5000,
        currency: *b"ZAR",
        currency_digits: 2,
        available: true,
        charset: Charset::Ascii,
        name: fill(b"Airtime R50"),
        receipt: fill(b"Dial *100*PIN#\nValid 30 days"),
    };
    let entries = [entry, CatalogueEntry::EMPTY];
    add(
        "catalogue page, one variety",
        Reply::Catalogue(Box::new(CataloguePage { version: 42, total: 3, from: 2, count: 1, entries })),
    );
    let longest = CatalogueEntry {
        available: false,
        charset: Charset::Utf8,
        name: fill(&[b'n'; NAME_BYTES_MAX]),
        receipt: fill(&[b'r'; RECEIPT_BYTES_MAX]),
        ..entry
    };
    let entries = [longest, CatalogueEntry { charset: Charset::Cp1256, ..longest }];
    add(
        "catalogue page, the longest",
        Reply::Catalogue(Box::new(CataloguePage { version: 42, total: 3, from: 0, count: 2, entries })),
    );
    let sold = Sold {
        sequence: 13,
        reference: 65_541,
        copy: 0,
        expiry: 20_271_231,
        pin: fill(b"4929-1183-7740-2256"),
        serial: fill(b"ZA0000012345"),
    };
    add("sold", Reply::Sold(sold));
    add("sold, second reprint, no expiry", Reply::Sold(Sold { copy: 2, expiry: 0, ..sold }));
    let (pin, serial) = (fill(&[b'9'; PIN_BYTES_MAX]), fill(&[b'S'; SERIAL_BYTES_MAX]));
    add("sold, the longest", Reply::Sold(Sold { pin, serial, ..sold }));
    let sequence = 13;
    for reason in (0..=255).filter_map(DeclineReason::from_byte) {
        add(&format!("declined {reason:?}"), Reply::Declined { sequence, reason });
    }
    for reason in (0..=255).filter_map(LaterReason::from_byte) {
        let reference = if reason == LaterReason::InDoubt { 770_013 } else { 0 };
        add(&format!("later {reason:?}"), Reply::Later { sequence, reason, wait_ms: 1500, reference });
    }
    for reason in (0..=255).filter_map(RefuseReason::from_byte) {
        add(&format!("refused {reason:?}"), Reply::Refused { sequence, reason });
    }
    let sealed = SoldBox::seal(&[5; 32], Suite::AesGcm, SellerId(9), &boxed_sale());
    for (name, state, reference, sealed) in [
        ("settled, in doubt", SequenceState::InDoubt, 0, SoldBox::NONE),
        ("settled, with the PIN", SequenceState::Sold, 65_541, sealed),
    ] {
        let seller = SellerId(9);
        add(name, Reply::Settled(Box::new(Settled { seller, sequence: 3, state, reference, sealed })));
    }
    for state in (0..=255).filter_map(SequenceState::from_byte) {
        use SequenceState::{Confirmed, Sold, Voided};
        let reference = if matches!(state, Sold | Confirmed | Voided) { 65_541 } else { 0 };
        add(&format!("state {state:?}"), Reply::State { sequence, state, reference });
    }
    list
}

/// What is in the box of a vector: sealed under the key 32 × `05`, by seller 9.
fn boxed_sale() -> Sold {
    let (pin, serial) = (fill(b"1234567890123456"), fill(b"S0001"));
    Sold { sequence: 3, reference: 65_541, copy: 0, expiry: 20_991_231, pin, serial }
}

fn controls() -> Vec<Control> {
    let mut controls = vec![Control::Ping { correlation: 0 }, Control::Ping { correlation: 513 }];
    controls.push(Control::Pong { correlation: 513 });
    for reason in (0..=255).filter_map(ByeReason::from_byte) {
        let addresses = if reason == ByeReason::Redirect { two_addresses() } else { Addresses::default() };
        controls.push(Control::Bye(Box::new(Bye { reason, wait_ms: 2000, addresses })));
    }
    for code in (0..=255).filter_map(ErrorCode::from_byte) {
        controls.push(Control::Error(control::ErrorNotice { code, version_min: 1, version_max: 1 }));
    }
    controls
}

fn two_addresses() -> Addresses {
    let mut addresses = Addresses { count: 2, ..Addresses::default() };
    addresses.list[0] = (std::net::Ipv4Addr::new(192, 0, 2, 10).to_ipv6_mapped().octets(), 7077);
    addresses.list[1] = ("2001:db8::5".parse::<std::net::Ipv6Addr>().unwrap().octets(), 7078);
    addresses
}

fn fill<const N: usize>(bytes: &[u8]) -> Text<N> {
    Text::new(bytes).unwrap()
}

fn addresses(addresses: &Addresses) -> Vec<Value> {
    let entry = |(bytes, port): &([u8; 16], u16)| json!({ "address": std::net::Ipv6Addr::from(*bytes), "port": port });
    addresses.entries().iter().map(entry).collect()
}

fn request_fields(request: &Request) -> Value {
    match request {
        Request::Login(login) => {
            let pair = |(seller, sequence): &(SellerId, u64)| json!({ "seller": seller.0, "sequence": number(*sequence) });
            json!({ "unresolved": login.pairs().iter().map(pair).collect::<Vec<_>>() })
        }
        Request::Catalogue { from } => json!({ "from": from }),
        Request::Vend(vend) => json!({
            "attempt": vend.attempt as u8, "sequence": number(vend.sequence), "product": vend.product,
            "face_value": number(vend.face_value), "deadline_ms": vend.deadline_ms, "confirmed": number(vend.confirmed),
        }),
        Request::Confirm { sequence }
        | Request::Void { sequence }
        | Request::Status { sequence }
        | Request::Reprint { sequence } => json!({ "sequence": number(*sequence) }),
        Request::Settle(settle) => json!({
            "seller": settle.seller.0, "sequence": number(settle.sequence), "action": settle.action as u8,
            "suite": settle.suite as u8,
        }),
    }
}

fn reply_fields(reply: &Reply) -> Value {
    match reply {
        Reply::Welcome(welcome) => json!({
            "seller": welcome.seller.0, "key_epoch": welcome.key_epoch.0,
            "next_sequence": number(welcome.next_sequence), "window_base": number(welcome.window_base),
            "window": welcome.window, "ping_interval_s": welcome.ping_interval_s,
            "back_off_min_ms": welcome.back_off_min_ms, "back_off_max_ms": welcome.back_off_max_ms,
            "catalogue_version": welcome.catalogue_version, "addresses": addresses(&welcome.addresses),
        }),
        Reply::Resolved(resolved) => {
            let outcome = |outcome: &Outcome| {
                json!({
                    "seller": outcome.seller.0, "sequence": number(outcome.sequence),
                    "state": outcome.state as u8, "reference": number(outcome.reference),
                })
            };
            json!({ "outcomes": resolved.list().iter().map(outcome).collect::<Vec<_>>() })
        }
        Reply::Catalogue(page) => {
            let entry = |entry: &CatalogueEntry| {
                json!({
                    "product": entry.product, "face_value": number(entry.face_value),
                    "currency": hex(&entry.currency), "currency_digits": entry.currency_digits,
                    "available": u8::from(entry.available), "charset": entry.charset as u8,
                    "name": hex(entry.name.as_bytes()), "receipt": hex(entry.receipt.as_bytes()),
                })
            };
            let entries: Vec<_> = page.list().iter().map(entry).collect();
            json!({ "version": page.version, "total": page.total, "from": page.from, "entries": entries })
        }
        Reply::Sold(sold) => json!({
            "sequence": number(sold.sequence), "reference": number(sold.reference), "copy": sold.copy,
            "expiry": sold.expiry, "pin": hex(sold.pin.as_bytes()), "serial": hex(sold.serial.as_bytes()),
        }),
        Reply::Declined { sequence, reason } => {
            json!({ "sequence": number(*sequence), "reason": *reason as u8 })
        }
        Reply::Later { sequence, reason, wait_ms, reference } => json!({
            "sequence": number(*sequence), "reason": *reason as u8, "wait_ms": wait_ms, "reference": number(*reference),
        }),
        Reply::Refused { sequence, reason } => {
            json!({ "sequence": number(*sequence), "reason": *reason as u8 })
        }
        Reply::State { sequence, state, reference } => json!({
            "sequence": number(*sequence), "state": *state as u8, "reference": number(*reference),
        }),
        Reply::Settled(settled) => json!({
            "seller": settled.seller.0, "sequence": number(settled.sequence), "state": settled.state as u8,
            "reference": number(settled.reference), "box": hex(settled.sealed.as_bytes()),
        }),
    }
}
