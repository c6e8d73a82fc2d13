//! Two servers that do nothing but answer: what sockets cost, and what sockets and syncs cost.

use crate::client::ECHO;
use crate::process::Result;
use engine::disk::lock::DirLock;
use engine::disk::mapped::MappedDisk;
use engine::disk::{Disk, Region};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Answers every question at once.
///
/// # Errors
/// The system does not let it listen.
pub fn serve() -> Result<()> {
    let mut server = Server::listen()?;
    loop {
        server.poll()?;
        while let Some((connection, questions)) = server.asked.pop_front() {
            server.answer(connection, questions);
        }
    }
}

/// Answers every question when a record of it is durable; while one sync runs, the next batch gathers.
///
/// # Errors
/// The system does not let it listen or write.
pub fn serve_durable(folder: &str) -> Result<()> {
    let mut server = Server::listen()?;
    let mut records = Durable::start(folder, Waker::new(server.poll.registry(), WAKER)?)?;
    loop {
        server.poll()?;
        for (connection, questions) in server.asked.drain(..) {
            records.add(connection, questions);
        }
        records.submit()?;
        while let Some((connection, questions)) = records.poll() {
            server.answer(connection, questions);
        }
    }
}

/// Records of questions, synced in batches by a thread of its own.
pub struct Durable {
    published: Arc<AtomicU64>,
    durable: Arc<AtomicU64>,
    commit: JoinHandle<io::Result<()>>,
    /// Up to which record each must be durable, who asked, and how many questions.
    waiting: VecDeque<(u64, usize, usize)>,
    count: u64,
}

impl Durable {
    /// A file of records in a folder; `waker` is woken after each sync.
    ///
    /// # Errors
    /// The system does not let it write there.
    pub fn start(folder: &str, waker: Waker) -> Result<Self> {
        let lock = DirLock::acquire(Path::new(folder))?;
        let disk = MappedDisk::open(&lock, "")?;
        let mut region = disk.create_region("durable", REGION_BYTES as u64)?;
        let published = Arc::new(AtomicU64::new(0));
        let durable = Arc::new(AtomicU64::new(0));
        let (to_do, done) = (Arc::clone(&published), Arc::clone(&durable));
        let commit = std::thread::spawn(move || -> io::Result<()> {
            let _lock = lock;
            let (mut committed, mut offset) = (0, 0);
            loop {
                // Pairs with the release in `submit`: the records are counted before they are to be committed.
                let wanted = to_do.load(Ordering::Acquire);
                if wanted == committed {
                    std::thread::park();
                    continue;
                }
                for _ in committed..wanted {
                    region.store(offset, &[wanted as u8; RECORD_BYTES]);
                    offset = (offset + RECORD_BYTES) % REGION_BYTES;
                }
                region.sync().map_err(io::Error::other)?;
                committed = wanted;
                // Pairs with the acquire in `poll`: an answer follows the sync.
                done.store(committed, Ordering::Release);
                waker.wake()?;
            }
        });
        Ok(Self { published, durable, commit, waiting: VecDeque::new(), count: 0 })
    }

    /// Records some questions of a connection, with the next [`Durable::submit`].
    pub fn add(&mut self, connection: usize, questions: usize) {
        self.count += questions as u64;
        self.waiting.push_back((self.count, connection, questions));
    }

    /// Has the thread sync what was added.
    ///
    /// # Errors
    /// It has ended.
    pub fn submit(&mut self) -> Result<()> {
        if self.commit.is_finished() {
            return Err("the commit thread ended".into());
        }
        if self.published.load(Ordering::Relaxed) < self.count {
            self.published.store(self.count, Ordering::Release);
            self.commit.thread().unpark();
        }
        Ok(())
    }

    /// The next whose questions are durable: the connection, and how many.
    pub fn poll(&mut self) -> Option<(usize, usize)> {
        let durable = self.durable.load(Ordering::Acquire);
        let (_, connection, questions) = self.waiting.pop_front_if(|(at, ..)| *at <= durable)?;
        Some((connection, questions))
    }
}

struct Server {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    connections: Vec<Option<(TcpStream, usize)>>,
    /// Connections and how many questions each asked.
    asked: VecDeque<(usize, usize)>,
    buffer: Vec<u8>,
    answers: Vec<u8>,
}

impl Server {
    /// Listens, and says where.
    fn listen() -> Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        println!("{}", listener.local_addr()?);
        Ok(Self {
            poll,
            events: Events::with_capacity(4096),
            listener,
            connections: Vec::new(),
            asked: VecDeque::new(),
            buffer: vec![0; BUFFER_BYTES],
            answers: vec![7; 2 * BUFFER_BYTES],
        })
    }

    fn poll(&mut self) -> Result<()> {
        self.poll.poll(&mut self.events, None)?;
        for event in &self.events {
            match event.token() {
                LISTENER => {
                    while let Ok((mut stream, _)) = self.listener.accept() {
                        stream.set_nodelay(true)?;
                        let token = Token(self.connections.len());
                        self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
                        self.connections.push(Some((stream, 0)));
                    }
                }
                WAKER => {}
                Token(at) => {
                    let Some((stream, partial)) = &mut self.connections[at] else { continue };
                    let mut questions = 0;
                    let is_open = loop {
                        match stream.read(&mut self.buffer) {
                            Ok(0) => break false,
                            Ok(read) => {
                                questions += (*partial + read) / ECHO.question_bytes();
                                *partial = (*partial + read) % ECHO.question_bytes();
                                if read < self.buffer.len() {
                                    break true;
                                }
                            }
                            Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
                        }
                    };
                    if !is_open {
                        self.connections[at] = None;
                    } else if questions > 0 {
                        self.asked.push_back((at, questions));
                    }
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, connection: usize, questions: usize) {
        let Some((stream, _)) = &mut self.connections[connection] else { return };
        if stream.write(&self.answers[..questions * ECHO.answer_bytes]).is_err() {
            self.connections[connection] = None;
        }
    }
}

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const BUFFER_BYTES: usize = 256 << 10;
const RECORD_BYTES: usize = 64;
const REGION_BYTES: usize = 256 << 20;
