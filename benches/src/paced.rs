//! An open loop on bare sockets: so many questions a second, whether answers come or not, timed from when each was due.
//!
//! It sleeps and wakes as the load generator does, so that both pay the same for processors that rest in between.

use crate::client::{Measured, Shape, connect};
use crate::process::{Child, Result};
use hdrhistogram::Histogram;
use loadgen::alarm::Alarm;
use mio::net::TcpStream;
use mio::{Events, Poll, Token};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

/// Asks `per_second` questions a second, one at a time on each connection, until time is up.
///
/// # Errors
/// A connection cannot be made, or breaks.
pub fn run(
    child: &Child,
    shape: Shape,
    connections: usize,
    per_second: u32,
    time: Duration,
) -> Result<Measured> {
    let mut poll = Poll::new()?;
    let alarm = Alarm::new(poll.registry(), ALARM)?;
    let mut events = Events::with_capacity(connections + 1);
    let mut lines: Vec<Line> = connect(child, connections, poll.registry())?
        .into_iter()
        .map(|stream| Line { stream, read: 0, due: Instant::now() })
        .collect();
    let mut idle: VecDeque<usize> = (0..connections).collect();
    let mut latency = Histogram::new_with_bounds(1000, 3_600_000_000_000, 3)?;
    let gap = Duration::from_secs(1) / per_second;
    let mut buffer = vec![0; shape.answer_bytes];
    let (start, server) = (Instant::now(), child.cpu_s());
    let (mut due, mut answers) = (start, 0);
    while due < start + time {
        while due <= Instant::now()
            && let Some(at) = idle.pop_front()
        {
            lines[at].due = due;
            lines[at].stream.write_all(shape.question())?;
            due += gap;
        }
        let wait = due.saturating_duration_since(Instant::now());
        if wait > ASK {
            alarm.set(wait - ASK)?;
        }
        let timeout = if wait > ASK { Duration::from_millis(100) } else { Duration::ZERO };
        poll.poll(&mut events, Some(timeout))?;
        for event in events.iter().filter(|event| event.token() != ALARM) {
            let line = &mut lines[event.token().0];
            match line.stream.read(&mut buffer[line.read..]) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(read) => line.read += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if line.read == shape.answer_bytes {
                latency.saturating_record(line.due.elapsed().as_nanos() as u64);
                line.read = 0;
                answers += 1;
                idle.push_back(event.token().0);
            }
        }
    }
    let server_cpu_s = child.cpu_s() - server;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Measured { answers, seconds, latency, server_cpu_s, client_busy: 0.0, trouble: None })
}

struct Line {
    stream: TcpStream,
    /// Bytes of the answer that have come.
    read: usize,
    /// When the question should have been asked.
    due: Instant,
}

const ALARM: Token = Token(usize::MAX);
/// It is awake so long before a question is due, as the load generator is.
const ASK: Duration = Duration::from_micros(120);
