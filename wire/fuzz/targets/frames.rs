//! Bytes as frames and messages of the terminal protocol: what is understood has one form only.

use wire::codec::{decode_reply, decode_request, encode_reply, encode_request};
use wire::control::{
    CONTROL_BYTES_MAX, Control, decode_control, encode_bye, encode_error, encode_ping, encode_pong,
};
use wire::frame::{Class, FRAME_BYTES_MAX, HEADER_BYTES, Header, TRAILER_BYTES};

pub(crate) fn run(bytes: &[u8]) {
    for trailer in [0, TRAILER_BYTES] {
        if let Ok(Some(header)) = Header::parse(bytes, trailer) {
            assert!(header.length <= bytes.len().min(FRAME_BYTES_MAX));
            if trailer == 0 && header.kind.class() == Class::Connection {
                control(&header, &bytes[HEADER_BYTES..header.length]);
            }
        }
    }
    let mut again = [0; FRAME_BYTES_MAX];
    if let Ok((correlation, request)) = decode_request(bytes) {
        let length = encode_request(correlation, &request, &mut again);
        assert_eq!(&again[..length], bytes, "{request:?}");
    }
    if let Ok((correlation, reply)) = decode_reply(bytes) {
        let length = encode_reply(correlation, &reply, &mut again);
        assert_eq!(&again[..length], bytes, "{reply:?}");
    }
}

fn control(header: &Header, body: &[u8]) {
    let Ok(control) = decode_control(header, body) else { return };
    let mut again = [0; CONTROL_BYTES_MAX];
    let length = match &control {
        Control::Ping { correlation } => encode_ping(*correlation, &mut again),
        Control::Pong { correlation } => encode_pong(*correlation, &mut again),
        Control::Bye(bye) => encode_bye(bye, &mut again),
        // The versions are those of whoever says it.
        Control::Error(notice) => {
            encode_error(notice.code, &mut again);
            return;
        }
    };
    assert_eq!(&again[HEADER_BYTES..length], body, "{control:?}");
}
