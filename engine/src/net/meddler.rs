//! Where a test can stand between a worker, its terminals and its journal, to see whether a wrong server is found out.

use crate::journal::record::RecordBytes;
use crate::seller::Asker;
use wire::message::Reply;

/// Changes what a worker says and records.
pub trait Meddler: Send + 'static {
    /// What is said in place of a reply, and to whom; `None`: the reply as it is. Whoever holds one back says it later in
    /// place of another.
    fn reply(&mut self, asker: &Asker, reply: &Reply) -> Option<Vec<(Asker, Reply)>>;

    /// Changes a record on its way to the journal.
    fn record(&mut self, record: &mut RecordBytes);
}

/// Changes nothing, at no cost.
#[derive(Clone, Copy, Debug)]
pub struct Honest;

impl Meddler for Honest {
    #[inline]
    fn reply(&mut self, _: &Asker, _: &Reply) -> Option<Vec<(Asker, Reply)>> {
        None
    }

    #[inline]
    fn record(&mut self, _: &mut RecordBytes) {}
}
