//! What a relay is held against: a bare proxy that puts the frames of many connections on one, and an echo behind it, at once or when
//! a record is durable, as a server's answers are. No sealing, no limits, no sessions: only the bytes.

use benches::client::ECHO;
use benches::echo::Durable;
use benches::process::Result;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

/// Carries what connections say to the server at an address, over one connection, and its answers back.
pub(crate) fn serve_proxy(server: SocketAddr) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{}", listener.local_addr()?);
    let mut upstream = Line::new(connect(server)?);
    poll.registry().register(&mut upstream.stream, UPSTREAM, Interest::READABLE | Interest::WRITABLE)?;
    let mut events = Events::with_capacity(4096);
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => {
                    while let Ok((mut stream, _)) = listener.accept() {
                        stream.set_nodelay(true)?;
                        let token = Token(connections.len());
                        poll.registry().register(&mut stream, token, Interest::READABLE)?;
                        connections.push(Some(stream));
                    }
                }
                UPSTREAM => {
                    upstream.read(&mut buffer)?;
                    upstream.take(|at, bytes| {
                        if let Some(stream) = &mut connections[at]
                            && stream.write(bytes).is_err()
                        {
                            connections[at] = None;
                        }
                    });
                }
                Token(at) => {
                    let Some(stream) = &mut connections[at] else { continue };
                    match stream.read(&mut buffer) {
                        Ok(0) => connections[at] = None,
                        Ok(bytes) => upstream.put(at, &buffer[..bytes]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(_) => connections[at] = None,
                    }
                }
            }
        }
        upstream.flush()?;
    }
}

/// Answers every question that comes over such a connection; in a folder, when a record of it there is durable.
pub(crate) fn serve_echo(folder: Option<&str>) -> Result<()> {
    let mut poll = Poll::new()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let mut records =
        folder.map(|folder| Durable::start(folder, Waker::new(poll.registry(), WAKER)?)).transpose()?;
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let mut line = Line::new(TcpStream::from_std(stream));
    poll.registry().register(&mut line.stream, UPSTREAM, Interest::READABLE | Interest::WRITABLE)?;
    let mut events = Events::with_capacity(16);
    let mut buffer = vec![0; 256 << 10];
    let answer = vec![7; ECHO.answer_bytes];
    loop {
        poll.poll(&mut events, None)?;
        line.read(&mut buffer)?;
        let mut asked = VecDeque::new();
        line.take(|at, bytes| asked.push_back((at, bytes.len() / ECHO.question_bytes())));
        if let Some(records) = &mut records {
            asked.drain(..).for_each(|(at, questions)| records.add(at, questions));
            records.submit()?;
        }
        while let Some((at, questions)) = asked.pop_front().or_else(|| records.as_mut()?.poll()) {
            (0..questions).for_each(|_| line.put(at, &answer));
        }
        line.flush()?;
    }
}

/// A connection that carries others: items of number `u32`, length `u32` and bytes.
struct Line {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Line {
    fn new(stream: TcpStream) -> Self {
        Self { stream, input: Vec::new(), output: Vec::new() }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the other end is gone".into()),
                Ok(bytes) => {
                    self.input.extend_from_slice(&buffer[..bytes]);
                    if bytes < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, mut deliver: impl FnMut(usize, &[u8])) {
        let mut rest = self.input.as_slice();
        while let Some((&[a0, a1, a2, a3, l0, l1, l2, l3], behind)) = rest.split_first_chunk::<8>() {
            let Some((bytes, behind)) =
                behind.split_at_checked(u32::from_le_bytes([l0, l1, l2, l3]) as usize)
            else {
                break;
            };
            deliver(u32::from_le_bytes([a0, a1, a2, a3]) as usize, bytes);
            rest = behind;
        }
        let taken = self.input.len() - rest.len();
        self.input.drain(..taken);
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.output.extend_from_slice(&(at as u32).to_le_bytes());
        self.output.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.output.extend_from_slice(bytes);
    }

    fn flush(&mut self) -> Result<()> {
        let mut sent = 0;
        while sent < self.output.len() {
            match self.stream.write(&self.output[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.output.drain(..sent);
        Ok(())
    }
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = std::net::TcpStream::connect(server)?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(TcpStream::from_std(stream))
}

const LISTENER: Token = Token(usize::MAX);
const UPSTREAM: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);
