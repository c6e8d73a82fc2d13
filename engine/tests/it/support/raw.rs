//! A connection that says any bytes, and what the seller answers to them.

use super::process::PATIENCE;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use wire::control::{Control, ErrorCode, decode_control};
use wire::frame::{HEADER_BYTES, Header};

/// Connects from another loopback address.
pub(crate) fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    connect(to, |socket| socket.bind(&SocketAddr::new(IpAddr::from(source), 0).into()))
}

/// Connects with little room for what the seller says.
pub(crate) fn connect_narrow(to: SocketAddr) -> TcpStream {
    // Before it connects: a window that shrinks later makes the connection drop what it needs to go on.
    connect(to, |socket| socket.set_recv_buffer_size(4096))
}

fn connect(to: SocketAddr, prepare: impl FnOnce(&Socket) -> io::Result<()>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    prepare(&socket).unwrap();
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The code with which a fresh connection ends that begins with these bytes.
pub(crate) fn rejection(to: SocketAddr, bytes: &[u8]) -> ErrorCode {
    let mut stream = connect_from([127, 0, 0, 1], to);
    stream.write_all(bytes).unwrap();
    last_error(&mut stream)
}

/// Reads up to the end of the connection: the code of the error that it ends with.
///
/// # Panics
/// If anything else ends it.
pub(crate) fn last_error(stream: &mut TcpStream) -> ErrorCode {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let header = Header::parse(&bytes, 0).unwrap().expect("the seller says why");
    assert_eq!(header.length, bytes.len(), "nothing follows the error");
    match decode_control(&header, &bytes[HEADER_BYTES..]).unwrap() {
        Control::Error(notice) => notice.code,
        other => panic!("{other:?}"),
    }
}
