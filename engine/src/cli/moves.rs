//! Moves of stock: `pinwheel moves`, `explain`, `drain` and `hub drain`.

use super::office::{Caller, unexpected};
use super::screen::{remark, say, say_json, table, thousands};
use super::{DrainArgs, Exit};
use crate::admin::{Reply, Request};
use crate::network::{DrainStatus, Move, Status};
use std::time::Duration;

impl Caller {
    pub(super) fn moves(&self, most: usize) -> Result<(), Exit> {
        let moves = self.asked_moves(&Request::ListMoves { most })?;
        if self.json {
            say_json(&moves);
            return Ok(());
        }
        let row = |row: &Move| {
            let (from, to) = match row.to_node {
                true => ("hub".to_owned(), format!("seller {}", row.seller)),
                false => (format!("seller {}", row.seller), "hub".to_owned()),
            };
            vec![row.id.to_string(), from, to, row.code.clone(), thousands(row.pins.into()), row.why.clone()]
        };
        let rows: Vec<_> = moves.iter().map(row).collect();
        say(&table(&[">move", "from", "to", "variety", ">PINs", "why"], &rows));
        Ok(())
    }

    pub(super) fn explain(&self, number: u64) -> Result<(), Exit> {
        let moves = self.asked_moves(&Request::Explain { number })?;
        let Some(row) = moves.first() else { return Err(Exit::no("there is no such move")) };
        if self.json {
            say_json(row);
            return Ok(());
        }
        let way = if row.to_node { "from the hub to" } else { "to the hub from" };
        say(&format!(
            "move {}: {} PINs of {} {way} seller {}, {} transfer {}\n\
             block {:#x}, PINs {} to {}, generation {}\n{}\n",
            row.id,
            thousands(row.pins.into()),
            row.code,
            row.seller,
            if row.is_urgent { "urgent" } else { "bulk" },
            row.number,
            row.block,
            row.first,
            row.past - 1,
            row.generation,
            row.why
        ));
        Ok(())
    }

    fn asked_moves(&self, request: &Request) -> Result<Vec<Move>, Exit> {
        match self.request(request, None)? {
            Reply::Moves { moves } => Ok(moves),
            other => Err(unexpected(other)),
        }
    }

    /// A node goes offline.
    pub(super) fn drain(&self, node: &str, args: &DrainArgs) -> Result<(), Exit> {
        let on = !args.undo;
        self.begin_drain(&Request::Drain { node: node.to_owned(), on }, args, &|status| {
            let nodes = status.hub.as_ref().map(|hub| &hub.nodes).into_iter().flatten();
            let mut nodes = nodes.filter(|row| row.name == node || row.seller.to_string() == node);
            nodes.next().and_then(|row| row.drain.clone())
        })
    }

    /// The hub goes offline.
    pub(super) fn drain_hub(&self, args: &DrainArgs) -> Result<(), Exit> {
        let on = !args.undo;
        self.begin_drain(&Request::DrainHub { on }, args, &|status| {
            status.hub.as_ref().and_then(|hub| hub.drain.clone())
        })
    }

    fn begin_drain(
        &self,
        request: &Request,
        args: &DrainArgs,
        progress: &dyn Fn(&Status) -> Option<DrainStatus>,
    ) -> Result<(), Exit> {
        match self.request(request, None)? {
            Reply::Changed { .. } => {}
            other => return Err(unexpected(other)),
        }
        let mut last = None;
        loop {
            let (status, hub_runs) = match self.request(&Request::Status, None)? {
                Reply::Status(status) => {
                    let hub_runs = status.hub.as_ref().is_some_and(|hub| hub.links.is_some());
                    (progress(&status), hub_runs)
                }
                other => return Err(unexpected(other)),
            };
            let Some(drain) = status else {
                // Undone, here or by somebody else.
                say(if self.json { "null\n" } else { "it stays\n" });
                return Ok(());
            };
            if !hub_runs && !drain.is_done && !self.json {
                say("begun; the hub is not running: stock moves when it is\n");
                return Ok(());
            }
            if last.as_ref() != Some(&drain) && !self.json && !drain.is_done {
                let (left, moved) = (thousands(drain.left), thousands(drain.moved));
                remark(&format!("{left} PINs left, {moved} moved {}\n", drain.stuck.join("; ")));
            }
            if drain.is_done || args.no_wait || !hub_runs {
                match (self.json, drain.is_done) {
                    (true, _) => say_json(&drain),
                    (false, true) => {
                        say(&format!("done: {} PINs moved; it may be stopped\n", thousands(drain.moved)));
                    }
                    (false, false) => say("begun; `pinwheel status` shows how far it is\n"),
                }
                return Ok(());
            }
            last = Some(drain);
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(500);
