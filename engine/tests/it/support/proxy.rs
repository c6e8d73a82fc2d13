//! A wire between two processes that a test can make slow, cut, or let run in one direction only.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Stands between those who connect to [`Proxy::address`] and a target, until the test ends.
pub(crate) struct Proxy {
    /// Where to connect instead.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    is_cut: AtomicBool,
    /// Nothing comes back from the target any more; what goes there does.
    is_deaf: AtomicBool,
    /// Each way.
    delay_ms: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
    /// Bytes that went through, both ways.
    bytes: AtomicU64,
}

impl Proxy {
    pub(crate) fn start(target: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            is_cut: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
            delay_ms: AtomicU64::new(delay.as_millis() as u64),
            open: Mutex::default(),
            bytes: AtomicU64::new(0),
        });
        let of_thread = Arc::clone(&shared);
        // It ends with the process of the tests.
        thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { return };
                of_thread.join(near);
            }
        });
        Self { address, shared }
    }

    /// The target has moved.
    pub(crate) fn aim(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Ends all connections and lets none through.
    pub(crate) fn cut(&self) {
        self.shared.is_cut.store(true, SeqCst);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What comes from now on takes so long, each way.
    pub(crate) fn slow_down(&self, delay: Duration) {
        self.shared.delay_ms.store(delay.as_millis() as u64, SeqCst);
    }

    /// From now on the one who connected hears nothing, and is heard.
    pub(crate) fn deafen(&self) {
        self.shared.is_deaf.store(true, SeqCst);
    }

    /// As it was in the beginning, for new connections.
    pub(crate) fn heal(&self) {
        self.cut();
        self.shared.is_deaf.store(false, SeqCst);
        self.shared.is_cut.store(false, SeqCst);
    }

    /// How much went through so far, both ways.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(SeqCst)
    }
}

impl Shared {
    fn join(self: &Arc<Self>, near: TcpStream) {
        let target = *self.target.lock().unwrap();
        if self.is_cut.load(SeqCst) {
            return;
        }
        let Ok(far) = TcpStream::connect(target) else { return };
        for stream in [&near, &far] {
            let _ = stream.set_nodelay(true);
        }
        let copies = [&near, &far].map(|stream| stream.try_clone().unwrap());
        self.open.lock().unwrap().extend(copies);
        if self.is_cut.load(SeqCst) {
            return self
                .open
                .lock()
                .unwrap()
                .drain(..)
                .for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        self.carry(near, far, false);
        self.carry(far_again, near_again, true);
    }

    /// One direction: one thread takes what comes, another hands it on when its time has come.
    fn carry(self: &Arc<Self>, mut from: TcpStream, mut to: TcpStream, is_back: bool) {
        let (sender, pieces) = std::sync::mpsc::sync_channel::<(Instant, Vec<u8>)>(4096);
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if is_back && shared.is_deaf.load(SeqCst) {
                    continue;
                }
                shared.bytes.fetch_add(length as u64, SeqCst);
                let due = Instant::now() + Duration::from_millis(shared.delay_ms.load(SeqCst));
                if sender.send((due, buffer[..length].to_vec())).is_err() {
                    break;
                }
            }
        });
        thread::spawn(move || {
            while let Ok((due, bytes)) = pieces.recv() {
                // This is the delay itself, not a wait for something to happen.
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    return;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}
