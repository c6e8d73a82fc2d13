//! Stands between two ends, copies bytes, and may alter one.

use super::PATIENCE;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

/// Where to connect instead of `target`. Once `flip` is set, the next piece of more than `bytes_min` bytes on its way from
/// the target loses one bit, and `flip` is unset. The threads end with their connections.
pub(super) fn proxy(target: SocketAddr, flip: &Arc<AtomicBool>, bytes_min: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let flip = Arc::clone(flip);
    // It serves the two connections of one link and of the next one, and ends.
    thread::spawn(move || {
        for _ in 0..4 {
            let Ok((near, _)) = listener.accept() else { return };
            let Ok(far) = TcpStream::connect(target) else { return };
            let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let flip = Arc::clone(&flip);
            thread::spawn(move || copy(near, far, |_| ()));
            thread::spawn(move || {
                copy(far_again, near_again, |bytes| {
                    if bytes.len() > bytes_min && flip.swap(false, SeqCst) {
                        bytes[bytes_min / 2] ^= 4;
                    }
                });
            });
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut alter: impl FnMut(&mut [u8])) {
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        alter(&mut buffer[..bytes]);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
