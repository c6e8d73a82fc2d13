//! A closed loop on bare sockets, and what a loop measured.

use crate::process::{Child, Result, cpu_s};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

/// What is asked and how long the answer is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    question: &'static [u8],
    /// In bytes.
    pub answer_bytes: usize,
}

impl Shape {
    /// The bytes that ask.
    #[must_use]
    pub const fn question(&self) -> &'static [u8] {
        self.question
    }

    /// How many they are.
    #[must_use]
    pub const fn question_bytes(&self) -> usize {
        self.question.len()
    }
}

/// About the sizes of a vend and of its answer.
pub const ECHO: Shape = Shape { question: &[1; 64], answer_bytes: 96 };
/// `LPOP list`; a value of 16 characters comes back as 23 bytes.
pub const REDIS: Shape = Shape { question: b"*2\r\n$4\r\nLPOP\r\n$4\r\nlist\r\n", answer_bytes: 23 };

/// What one load came to.
#[derive(Debug)]
pub struct Measured {
    /// Answers that came.
    pub answers: u64,
    /// How long it took.
    pub seconds: f64,
    /// Nanoseconds.
    pub latency: Histogram<u64>,
    /// Processor seconds of the server meanwhile.
    pub server_cpu_s: f64,
    /// The part of the time that the client's core was busy.
    pub client_busy: f64,
    /// Why the figures mean nothing, if so.
    pub trouble: Option<String>,
}

impl Measured {
    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    /// A quantile of the latency, in microseconds.
    #[must_use]
    pub fn at_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Processor seconds of the server for a million answers.
    #[must_use]
    pub fn server_cpu_s_per_million(&self) -> f64 {
        self.server_cpu_s * 1e6 / self.answers.max(1) as f64
    }

    /// What a reader has to know of it.
    #[must_use]
    pub fn remark(&self) -> String {
        match &self.trouble {
            Some(trouble) => trouble.clone(),
            None if self.client_busy > 0.95 => "client at its limit".to_owned(),
            None => String::new(),
        }
    }
}

/// Connections to a server; each is registered for reading under its place.
///
/// # Errors
/// It does not take them.
pub fn connect(child: &Child, connections: usize, registry: &Registry) -> Result<Vec<TcpStream>> {
    let one = |at| {
        let stream = std::net::TcpStream::connect(child.address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, Token(at), Interest::READABLE)?;
        Ok(stream)
    };
    (0..connections).map(one).collect()
}

/// Asks `depth` questions at a time on each connection until time is up.
///
/// # Errors
/// A connection cannot be made, or breaks.
pub fn run(
    child: &Child,
    shape: Shape,
    connections: usize,
    depth: usize,
    time: Duration,
) -> Result<Measured> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(4096);
    let mut streams: Vec<_> = connect(child, connections, poll.registry())?
        .into_iter()
        .map(|stream| (stream, 0, Instant::now()))
        .collect();
    let questions = shape.question.repeat(depth);
    let mut buffer = vec![0; 256 << 10];
    let mut latency = Histogram::new_with_bounds(1000, 3_600_000_000_000, 3)?;
    for (stream, _, asked) in &mut streams {
        *asked = Instant::now();
        stream.write_all(&questions)?;
    }
    let (start, server, own) = (Instant::now(), child.cpu_s(), cpu_s(std::process::id()));
    let (mut answers, mut trouble) = (0, None);
    'time: while start.elapsed() < time {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let (stream, read, asked) = &mut streams[event.token().0];
            while let Ok(bytes) = stream.read(&mut buffer) {
                if bytes == 0 || buffer.starts_with(b"$-1") {
                    trouble = Some("it ran out or closed the connection".to_owned());
                    break 'time;
                }
                *read += bytes;
                if bytes < buffer.len() {
                    break;
                }
            }
            if *read == shape.answer_bytes * depth {
                let now = Instant::now();
                (*read, answers) = (0, answers + depth as u64);
                latency.saturating_record(now.duration_since(*asked).as_nanos() as u64);
                *asked = now;
                stream.write_all(&questions)?;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Measured {
        answers,
        seconds,
        latency,
        server_cpu_s: child.cpu_s() - server,
        client_busy: (cpu_s(std::process::id()) - own) / seconds,
        trouble,
    })
}
