//! The thread that answers for sellers that are lost or have left: it reads their archives, which takes its time.

use super::hub::HubHandle;
use super::office::{NotDone, SequenceAnswer, is_pin_due};
use super::{Failure, Office, spawn};
use crate::ids::SellerId;
use crate::link::{Asked, Told};
use crossbeam::channel::Receiver;
use std::thread::JoinHandle;

/// A question of a node's about a sequence of such a seller.
pub(super) struct ArchiveQuestion {
    pub(super) node: SellerId,
    pub(super) question: u64,
    pub(super) seller: SellerId,
    pub(super) asked: Asked,
}

/// Starts the thread; it ends when the hub's thread has.
pub(super) fn start(
    questions: Receiver<ArchiveQuestion>,
    office: Office,
    hub: &HubHandle,
    fatal: fn(&Failure) -> !,
) -> JoinHandle<()> {
    let hub = hub.teller();
    spawn("answering", fatal, move || {
        for ArchiveQuestion { node, question, seller, asked } in questions {
            let answered = office.answer(seller, asked.vend).map(SequenceAnswer::told);
            let told = match answered.and_then(|told| with_pin(&office, seller, &asked, told)) {
                Ok(told) => told,
                Err(error) => {
                    tracing::warn!(seller = seller.0, "a question about its sequences is in doubt: {error}");
                    Told::IN_DOUBT
                }
            };
            hub(node, question, told);
        }
        Ok(())
    })
}

/// Adds the PIN, if it was sold and not voided, and is asked for.
fn with_pin(office: &Office, seller: SellerId, asked: &Asked, told: Told) -> Result<Told, NotDone> {
    if !is_pin_due(&told, asked) {
        return Ok(told);
    }
    Ok(Told { sealed: office.sold_again(seller, asked, told.reference)?, ..told })
}
