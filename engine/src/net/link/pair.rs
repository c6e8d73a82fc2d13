//! A link: its two connections, and what little order there is between them.

use super::LinkOptions;
use super::fault::Fault;
use super::line::Line;
use super::pacing::Bucket;
use super::pipe::Pipe;
use crate::link::{Channel, Encoded, LinkMessage};
use std::ops::ControlFlow;
use wire::link::LinkSession;

/// A link that is up. `In` is what the other end says.
pub(super) struct Link<In> {
    control: Line,
    bulk: Line,
    /// Whether anything came on the control channel: before that, nothing from the bulk channel is handed on.
    begun: bool,
    /// The first message from the bulk channel if it came too early. No more is read there then.
    held: Option<In>,
}

impl<In: LinkMessage> Link<In> {
    /// Puts the connections together and says to the other end that the link is up, if `greet`.
    pub(super) fn new(
        control: (Pipe, LinkSession),
        bulk: (Pipe, LinkSession),
        greet: bool,
        options: LinkOptions,
        now_ms: u64,
    ) -> Self {
        let line = |channel, (pipe, session)| Line::new(channel, pipe, session, options, now_ms);
        let (mut control, mut bulk) = (line(Channel::Control, control), line(Channel::Bulk, bulk));
        if greet {
            control.open();
            bulk.open();
        }
        Self { control, bulk, begun: false, held: None }
    }

    pub(super) fn line(&mut self, channel: Channel) -> &mut Line {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Bulk => &mut self.bulk,
            Channel::Sessions => unreachable!("no message of a link goes there"),
        }
    }

    pub(super) fn push(&mut self, channel: Channel, message: Encoded) -> Result<(), Fault> {
        self.line(channel).push(message)
    }

    /// Moves what is on the control channel, in both directions; whether there may be more at once.
    pub(super) fn serve_control(&mut self, now_ms: u64, mut deliver: impl FnMut(In)) -> Result<bool, Fault> {
        let Self { control, begun, held, .. } = self;
        let more_to_read = control.receive(TURN_BYTES, now_ms, |message| {
            deliver(message);
            *begun = true;
            held.take().into_iter().for_each(&mut deliver);
            ControlFlow::Continue(())
        })?;
        Ok(control.flush(TURN_BYTES, now_ms, None)? | more_to_read)
    }

    /// Moves a slice of what is on the bulk channel, in both directions; whether there may be more at once.
    pub(super) fn serve_bulk(
        &mut self,
        now_ms: u64,
        bucket: &mut Bucket,
        mut deliver: impl FnMut(In),
    ) -> Result<bool, Fault> {
        let Self { bulk, begun, held, .. } = self;
        let mut more_to_read = false;
        if held.is_none() {
            more_to_read = bulk.receive(TURN_BYTES, now_ms, |message| {
                if *begun {
                    deliver(message);
                    return ControlFlow::Continue(());
                }
                *held = Some(message);
                ControlFlow::Break(())
            })?;
        }
        Ok(bulk.flush(TURN_BYTES, now_ms, Some(bucket))? | more_to_read)
    }

    /// Whether bulk waits to be sent: for room, or for the budget.
    pub(super) fn has_unsent_bulk(&self) -> bool {
        self.bulk.has_unsent()
    }

    pub(super) fn tick(&mut self, now_ms: u64) -> Result<(), Fault> {
        self.control.tick(now_ms, true)?;
        self.bulk.tick(now_ms, self.held.is_none())
    }

    /// Says why on both connections, and gives them up.
    pub(super) fn end(self, fault: &Fault) -> [Pipe; 2] {
        [self.control.end(fault), self.bulk.end(fault)]
    }
}

/// Bytes that one connection moves in one direction before others have their turn.
const TURN_BYTES: usize = 256 * 1024;
