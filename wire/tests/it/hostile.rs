//! What a bad peer can do: be told so in a code, and nothing else.

use proptest::prelude::*;
use wire::codec::{decode_reply, decode_request, encode_request};
use wire::control::{self, CONTROL_BYTES_MAX, ErrorCode};
use wire::frame::{FRAME_BYTES_MAX, FrameError, Header, Kind};
use wire::message::*;
use wire::session::{Acceptor, Inbound, Mode, SellerSession, SessionError, TerminalSession};

use crate::support::*;

/// A pair whose terminal is logged in.
fn logged_in(variant: usize) -> (TerminalSession, SellerSession) {
    let (suite, mode) = VARIANTS[variant];
    let (mut terminal, mut seller) = pair(suite, mode);
    let mut out = [0; FRAME_BYTES_MAX];
    let length = terminal.send(0, &Request::Login(Box::new(Login::EMPTY)), &mut out);
    seller.receive(&mut out[..length]).unwrap().unwrap();
    (terminal, seller)
}

fn code_of(seller: &mut SellerSession, bytes: &[u8]) -> ErrorCode {
    seller.receive(&mut bytes.to_vec()).expect_err("accepted").code()
}

#[test]
fn every_header_fault_has_its_own_code() {
    let mut ping = [0; CONTROL_BYTES_MAX];
    let length = control::encode_ping(0, &mut ping);
    for (place, byte, code) in [
        (0, 7, ErrorCode::Malformed),
        (0, 9, ErrorCode::TooLarge),
        (1, 2, ErrorCode::TooLarge),
        (2, 0xee, ErrorCode::Kind),
        (2, Kind::Hello as u8, ErrorCode::Malformed),
        (3, 2, ErrorCode::Version),
        (3, 0, ErrorCode::Version),
        (4, 1, ErrorCode::Flags),
        (5, 0x80, ErrorCode::Flags),
    ] {
        let (_, mut seller) = logged_in(0);
        let mut frame = ping[..length].to_vec();
        frame[place] = byte;
        assert_eq!(code_of(&mut seller, &frame), code, "byte {place} = {byte}");
    }
}

#[test]
fn a_frame_that_is_too_large_is_refused_before_it_is_complete() {
    let (_, mut seller) = logged_in(0);
    assert_eq!(code_of(&mut seller, &[0x01, 0x02]), ErrorCode::TooLarge);
    let (_, mut seller) = logged_in(2);
    let claims_too_much = [100, 0, Kind::Confirm as u8, 1];
    assert_eq!(code_of(&mut seller, &claims_too_much), ErrorCode::TooLarge);
}

#[test]
fn a_replayed_reordered_or_altered_sealed_frame_does_not_open() {
    for variant in [0, 1] {
        let frames = |terminal: &mut TerminalSession| {
            [1, 2].map(|sequence| {
                let mut out = [0; FRAME_BYTES_MAX];
                let length = terminal.send(1, &Request::Status { sequence }, &mut out);
                out[..length].to_vec()
            })
        };
        let (mut terminal, mut seller) = logged_in(variant);
        let [first, second] = frames(&mut terminal);
        seller.receive(&mut first.clone()).unwrap().unwrap();
        assert_eq!(code_of(&mut seller, &first), ErrorCode::Unsealing, "replayed");
        assert_eq!(code_of(&mut seller, &second), ErrorCode::Unsealing, "the session stays over");

        let (mut terminal, mut seller) = logged_in(variant);
        let [_, second] = frames(&mut terminal);
        assert_eq!(code_of(&mut seller, &second), ErrorCode::Unsealing, "out of order");

        for place in 8..first.len() {
            let (mut terminal, mut seller) = logged_in(variant);
            let [mut first, _] = frames(&mut terminal);
            first[place] ^= 0x10;
            assert_eq!(code_of(&mut seller, &first), ErrorCode::Unsealing, "byte {place} altered");
        }
    }
}

#[test]
fn a_frame_of_another_session_does_not_open() {
    let (suite, mode) = VARIANTS[0];
    let (mut terminal, _) = logged_in(0);
    let mut out = [0; FRAME_BYTES_MAX];
    let length = terminal.send(1, &Request::Status { sequence: 1 }, &mut out);
    let (_, frame) = hello(suite, mode, &KEY);
    let acceptor = Acceptor::new(false);
    let (_, hello) = acceptor.hello(&frame).unwrap().unwrap();
    // The same hello again, as a replay would bring it: the seller's own randomness makes the keys new.
    let (mut replayed, _) = acceptor.accept(&hello, &KEY, &[0x77; 32], &mut [0; 64]).unwrap();
    assert_eq!(code_of(&mut replayed, &out[..length]), ErrorCode::Unsealing);
    assert!(!replayed.logged_in());
}

#[test]
fn a_wrong_checksum_in_clear_mode_is_told() {
    let mut out = [0; FRAME_BYTES_MAX];
    let (mut terminal, _) = logged_in(2);
    let length = terminal.send(1, &Request::Status { sequence: 1 }, &mut out);
    for place in 6..length {
        let (_, mut seller) = logged_in(2);
        out[place] ^= 4;
        assert_eq!(code_of(&mut seller, &out[..length]), ErrorCode::Checksum, "byte {place} altered");
        out[place] ^= 4;
    }
}

#[test]
fn messages_in_the_wrong_form_or_direction_are_refused_by_kind() {
    let mut out = [0; FRAME_BYTES_MAX];
    // A clear request in a sealed session.
    let length = encode_request(1, &Request::Status { sequence: 1 }, &mut out);
    let (_, mut seller) = logged_in(0);
    assert_eq!(code_of(&mut seller, &out[..length]), ErrorCode::Kind);
    // A sealed request in a clear session.
    let (mut terminal, _) = logged_in(0);
    let length = terminal.send(1, &Request::Status { sequence: 1 }, &mut out);
    let (_, mut seller) = logged_in(2);
    assert_eq!(code_of(&mut seller, &out[..length]), ErrorCode::Kind);
    // A request to a terminal, a reply to a seller.
    for variant in 0..VARIANTS.len() {
        let (mut terminal, mut seller) = logged_in(variant);
        let (mut other_terminal, mut other_seller) = logged_in(variant);
        let length = other_seller.send(1, &welcome(), &mut out);
        let error = seller.receive(&mut out[..length]).unwrap_err();
        assert!(
            matches!(error, SessionError::Frame(FrameError::Kind) | SessionError::Unsealing),
            "{error:?}"
        );
        let length = other_terminal.send(1, &Request::Status { sequence: 1 }, &mut out);
        let error = terminal.receive(&mut out[..length]).unwrap_err();
        assert!(
            matches!(error, SessionError::Frame(FrameError::Kind) | SessionError::Unsealing),
            "{error:?}"
        );
    }
    // A second hello.
    let (suite, mode) = VARIANTS[0];
    let (_, mut seller) = logged_in(0);
    assert_eq!(code_of(&mut seller, &hello(suite, mode, &KEY).1), ErrorCode::OutOfOrder);
}

#[test]
fn before_the_hello_only_a_hello_is_taken() {
    let acceptor = Acceptor::new(true);
    let mut out = [0; CONTROL_BYTES_MAX];
    let length = control::encode_ping(1, &mut out);
    assert_eq!(acceptor.hello(&out[..length]), Err(SessionError::OutOfOrder));
    let (suite, mode) = VARIANTS[0];
    let (_, frame) = hello(suite, mode, &KEY);
    for part in 0..frame.len() {
        assert_eq!(acceptor.hello(&frame[..part]), Ok(None));
    }
    for (place, byte, code) in [
        (8, 2, ErrorCode::Malformed), // lowest version above the highest
        (10, 9, ErrorCode::Suite),
        (11, 2, ErrorCode::Malformed),
    ] {
        let mut frame = frame;
        frame[place] = byte;
        assert_eq!(acceptor.hello(&frame).unwrap_err().code(), code);
    }
    let mut frame = frame;
    (frame[8], frame[9]) = (2, 5);
    assert_eq!(acceptor.hello(&frame).unwrap_err().code(), ErrorCode::Version, "no common version");
    (frame[8], frame[9]) = (0, 5);
    assert_eq!(acceptor.hello(&frame).unwrap().unwrap().1.version, 1, "the highest common one");
}

#[test]
fn bad_counts_codes_and_reserved_bytes_are_malformed() {
    let mut out = [0; FRAME_BYTES_MAX];
    let login = Request::Login(Box::new(Login { count: 1, ..Login::EMPTY }));
    let length = encode_request(1, &login, &mut out);
    for (place, byte) in [(8, 0), (8, 2), (8, 17), (9, 1), (11, 1)] {
        let mut frame = out[..length].to_vec();
        frame[place] = byte;
        assert_eq!(decode_request(&frame), Err(FrameError::Malformed), "byte {place} = {byte}");
    }
    let vend = Vend {
        attempt: Attempt::First,
        sequence: 1,
        product: 1,
        face_value: 1,
        deadline_ms: 1,
        confirmed: 0,
    };
    let length = encode_request(1, &Request::Vend(vend), &mut out);
    for attempt in [0, 3, 255] {
        out[length - 1] = attempt;
        assert_eq!(decode_request(&out[..length]), Err(FrameError::Malformed));
    }
}

#[test]
fn a_terminal_message_never_needs_more_than_one_frame() {
    let login = Request::Login(Box::new(Login { count: 255, ..Login::EMPTY }));
    let mut out = [0; FRAME_BYTES_MAX];
    let length = encode_request(1, &login, &mut out);
    let (_, read) = decode_request(&out[..length]).unwrap();
    assert!(
        matches!(read, Request::Login(login) if login.count == 16),
        "a count beyond the array is cut to it"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), variant in 0..4usize) {
        let _ = Header::parse(&bytes, 0);
        let _ = decode_request(&bytes);
        let _ = decode_reply(&bytes);
        let _ = Acceptor::new(true).hello(&bytes);
        let (suite, mode) = VARIANTS[variant];
        let _ = hello(suite, mode, &KEY).0.receive(&bytes);
        let (mut terminal, mut seller) = logged_in(variant);
        let _ = terminal.receive(&mut bytes.clone());
        let _ = seller.receive(&mut bytes.clone());
    }

    /// Bytes that look like a frame of some kind get past the header, so that every body is tried.
    #[test]
    fn plausible_frames_never_panic_and_what_decodes_encodes_to_the_same(
        kind in 0..0x30u8, body in proptest::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..460),
        cut in any::<bool>(),
    ) {
        let (least, most) = Kind::from_byte(kind).map_or((0, 460), Kind::body_bytes);
        let body = &body[..if cut { body.len().min(least) } else { body.len().min(most) }];
        let mut frame = u16::try_from(body.len() + 8).unwrap().to_le_bytes().to_vec();
        frame.extend([kind, 1, 0, 0, 7, 7]);
        frame.extend(body);
        let mut out = [0; FRAME_BYTES_MAX];
        if let Ok((correlation, request)) = decode_request(&frame) {
            let length = encode_request(correlation, &request, &mut out);
            prop_assert_eq!(&out[..length], &frame[..]);
        }
        if let Ok((correlation, reply)) = decode_reply(&frame) {
            let length = wire::codec::encode_reply(correlation, &reply, &mut out);
            prop_assert_eq!(&out[..length], &frame[..]);
        }
        let (_, mut seller) = logged_in(0);
        if let Ok(Some((length, inbound))) = seller.receive(&mut frame.clone()) {
            prop_assert_eq!(length, frame.len());
            prop_assert!(!matches!(inbound, Inbound::Request { .. }), "a clear request in a sealed session");
        }
        prop_assert_eq!(seller.mode(), Mode::Sealed);
    }
}
