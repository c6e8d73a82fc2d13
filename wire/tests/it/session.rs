//! What two honest ends agree on.

use proptest::prelude::*;
use wire::codec::{decode_reply, decode_request, encode_reply, encode_request};
use wire::control::{self, Bye, ByeReason, CONTROL_BYTES_MAX, ErrorCode};
use wire::frame::{FRAME_BYTES_MAX, REPLY_BYTES_MAX, REQUEST_BYTES_MAX};
use wire::message::*;
use wire::session::{
    AcceptError, Acceptor, HANDSHAKE_BYTES, HandshakeInbound, Inbound, Mode, SellerSession, SessionError,
    TerminalHandshake, TerminalInbound,
};

use crate::support::*;

#[test]
fn both_ends_understand_each_other_in_every_suite_and_mode() {
    for (suite, mode) in VARIANTS {
        let (mut terminal, mut seller) = pair(suite, mode);
        assert_eq!((seller.terminal(), seller.key_epoch(), seller.mode()), (TERMINAL, EPOCH, mode));
        let mut out = [0; FRAME_BYTES_MAX];

        let length = seller.send(0, &welcome(), &mut out);
        let received = terminal.receive(&mut out[..length]).unwrap().unwrap();
        assert_eq!(received, (length, TerminalInbound::Reply { correlation: 0, reply: welcome() }));

        // A login and the first request travel together.
        let login = Request::Login(Box::new(Login::EMPTY));
        let first = terminal.send(1, &login, &mut out);
        let second = terminal.send(2, &Request::Status { sequence: 9 }, &mut out[first..]);
        assert!(!seller.logged_in());
        let received = seller.receive(&mut out[..first + second]).unwrap().unwrap();
        assert_eq!(received, (first, Inbound::Request { correlation: 1, request: login }));
        assert!(seller.logged_in());
        let received = seller.receive(&mut out[first..first + second]).unwrap().unwrap();
        let request = Request::Status { sequence: 9 };
        assert_eq!(received, (second, Inbound::Request { correlation: 2, request }));
        assert_eq!(seller.receive(&mut out[..0]), Ok(None));
    }
}

#[test]
fn a_wrong_key_fails_at_the_seller_and_a_wrong_seller_at_the_terminal() {
    for (suite, mode) in VARIANTS {
        let acceptor = Acceptor::new(true);
        let mut answer = [0; HANDSHAKE_BYTES];
        let (_, frame) = hello(suite, mode, &[9; 32]);
        let (_, hello_read) = acceptor.hello(&frame).unwrap().unwrap();
        let refused = acceptor.accept(&hello_read, &KEY, &[0x22; 32], &mut answer).map(|_| ());
        assert_eq!(refused, Err(AcceptError));
        assert_eq!(AcceptError.code(), ErrorCode::Authentication);

        let (_, frame) = hello(suite, mode, &KEY);
        let (_, hello_read) = acceptor.hello(&frame).unwrap().unwrap();
        acceptor.accept(&hello_read, &KEY, &[0x22; 32], &mut answer).unwrap();
        let (mut other, _) = hello(suite, mode, &[9; 32]);
        assert_eq!(other.receive(&answer).map(|_| ()), Err(SessionError::Authentication));
    }
}

#[test]
fn no_field_of_the_hello_can_be_changed_on_the_way() {
    let (suite, mode) = VARIANTS[0];
    let (_, frame) = hello(suite, mode, &KEY);
    for place in 0..frame.len() {
        let mut frame = frame;
        frame[place] ^= 2;
        let acceptor = Acceptor::new(true);
        let mut answer = [0; HANDSHAKE_BYTES];
        if let Ok(Some((_, hello))) = acceptor.hello(&frame) {
            let accepted = acceptor.accept(&hello, &KEY, &[0x22; 32], &mut answer);
            assert!(accepted.is_err(), "byte {place} changed and the handshake went on");
        }
    }
}

#[test]
fn clear_mode_is_refused_unless_the_listener_allows_it() {
    let (suite, _) = VARIANTS[0];
    let (_, frame) = hello(suite, Mode::Clear, &KEY);
    assert_eq!(Acceptor::new(false).hello(&frame), Err(SessionError::Mode));
    assert!(Acceptor::new(true).hello(&frame).unwrap().is_some());
}

#[test]
fn the_first_request_is_a_login_and_there_is_only_one() {
    for (suite, mode) in VARIANTS {
        let mut out = [0; FRAME_BYTES_MAX];
        let (mut terminal, mut seller) = pair(suite, mode);
        let length = terminal.send(1, &Request::Confirm { sequence: 1 }, &mut out);
        assert_eq!(seller.receive(&mut out[..length]), Err(SessionError::OutOfOrder));
        assert_eq!(SessionError::OutOfOrder.code(), ErrorCode::OutOfOrder);
        let length = terminal.send(1, &Request::Login(Box::new(Login::EMPTY)), &mut out);
        assert_eq!(
            seller.receive(&mut out[..length]),
            Err(SessionError::OutOfOrder),
            "the session stays over"
        );

        let (mut terminal, mut seller) = pair(suite, mode);
        let length = terminal.send(1, &Request::Login(Box::new(Login::EMPTY)), &mut out);
        assert!(seller.receive(&mut out[..length]).is_ok());
        let length = terminal.send(2, &Request::Login(Box::new(Login::EMPTY)), &mut out);
        assert_eq!(seller.receive(&mut out[..length]), Err(SessionError::OutOfOrder));
    }
}

#[test]
fn connection_frames_pass_in_any_session_in_both_directions() {
    let mut addresses = Addresses { count: 1, ..Addresses::default() };
    addresses.list[0] = ([1; 16], 7077);
    let bye = Bye { reason: ByeReason::Stopping, wait_ms: 1500, addresses };
    for (suite, mode) in VARIANTS {
        let (mut terminal, mut seller) = pair(suite, mode);
        let mut out = [0; CONTROL_BYTES_MAX];
        let length = control::encode_ping(5, &mut out);
        assert_eq!(seller.receive(&mut out[..length]), Ok(Some((8, Inbound::Ping { correlation: 5 }))));
        assert_eq!(
            terminal.receive(&mut out[..length]),
            Ok(Some((8, TerminalInbound::Ping { correlation: 5 })))
        );
        let length = control::encode_pong(6, &mut out);
        assert_eq!(seller.receive(&mut out[..length]), Ok(Some((8, Inbound::Pong { correlation: 6 }))));
        assert_eq!(
            terminal.receive(&mut out[..length]),
            Ok(Some((8, TerminalInbound::Pong { correlation: 6 })))
        );
        let length = control::encode_bye(&bye, &mut out);
        assert_eq!(seller.receive(&mut out[..length]), Ok(Some((length, Inbound::Bye(Box::new(bye))))));
        assert_eq!(
            terminal.receive(&mut out[..length]),
            Ok(Some((length, TerminalInbound::Bye(Box::new(bye)))))
        );
        let length = control::encode_error(ErrorCode::Version, &mut out);
        match (seller.receive(&mut out[..length]), terminal.receive(&mut out[..length])) {
            (Ok(Some((12, Inbound::Error(a)))), Ok(Some((12, TerminalInbound::Error(b))))) => {
                assert_eq!((a, a.code, a.version_min, a.version_max), (b, ErrorCode::Version, 1, 1));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_hello_may_be_answered_by_bye_or_error() {
    let (suite, mode) = VARIANTS[0];
    let mut out = [0; CONTROL_BYTES_MAX];
    let length = control::encode_error(ErrorCode::Authentication, &mut out);
    let (mut handshake, _) = hello(suite, mode, &KEY);
    assert!(matches!(
        handshake.receive(&out[..length]),
        Ok(Some((12, HandshakeInbound::Error(notice)))) if notice.code == ErrorCode::Authentication
    ));
    let bye = Bye { reason: ByeReason::Busy, wait_ms: 9, addresses: Addresses::default() };
    let length = control::encode_bye(&bye, &mut out);
    assert!(matches!(
        handshake.receive(&out[..length]),
        Ok(Some((16, HandshakeInbound::Bye(received)))) if *received == bye
    ));
}

#[test]
fn sessions_are_small_and_can_move_between_threads() {
    fn can_move<T: Send>() {}
    can_move::<SellerSession>();
    can_move::<TerminalHandshake>();
    assert!(size_of::<SellerSession>() <= 1152, "{} bytes", size_of::<SellerSession>());
}

proptest! {
    #[test]
    fn requests_survive_in_inner_form_and_through_a_session(
        correlation: u16, request in request(), variant in 0..VARIANTS.len(),
    ) {
        let mut out = [0xaa; REQUEST_BYTES_MAX];
        let length = encode_request(correlation, &request, &mut out);
        prop_assert_eq!(decode_request(&out[..length]), Ok((correlation, request.clone())));
        let (suite, mode) = VARIANTS[variant];
        let (mut terminal, mut seller) = pair(suite, mode);
        if !matches!(request, Request::Login(_)) {
            let length = terminal.send(0, &Request::Login(Box::new(Login::EMPTY)), &mut out);
            seller.receive(&mut out[..length]).unwrap().unwrap();
        }
        let length = terminal.send(correlation, &request, &mut out);
        for part in 0..length {
            prop_assert_eq!(seller.receive(&mut out[..part]), Ok(None), "incomplete is not invalid");
        }
        let received = seller.receive(&mut out);
        prop_assert_eq!(received, Ok(Some((length, Inbound::Request { correlation, request }))));
    }

    #[test]
    fn replies_survive_in_inner_form_and_through_a_session(
        correlation: u16, first in any_welcome(), reply in reply(), variant in 0..VARIANTS.len(),
    ) {
        let mut out = [0xaa; REPLY_BYTES_MAX];
        let (suite, mode) = VARIANTS[variant];
        let (mut terminal, mut seller) = pair(suite, mode);
        for reply in [first, reply] {
            let length = encode_reply(correlation, &reply, &mut out);
            prop_assert_eq!(decode_reply(&out[..length]), Ok((correlation, reply.clone())));
            let length = seller.send(correlation, &reply, &mut out);
            for part in 0..length {
                prop_assert_eq!(terminal.receive(&mut out[..part]), Ok(None), "incomplete is not invalid");
            }
            let received = terminal.receive(&mut out);
            prop_assert_eq!(received, Ok(Some((length, TerminalInbound::Reply { correlation, reply }))));
        }
    }
}
