//! Batch files: how a supplier with a spool directory delivers.

use super::config::SpoolTerms;
use super::spool::{End, Spool};
use super::{Accepted, Acquisition, Expected, HubAccess, Setback, Supplier, order_number};
use crate::intake::Source;
use std::fs::File;
use std::io::{self, Read, Seek};
use xxhash_rust::xxh3::Xxh3;

/// Takes in every batch file that has come. A file stays where it is until its end is in the books.
pub(super) fn take_in(
    acquisition: &mut Acquisition,
    supplier: &Supplier,
    terms: &SpoolTerms,
    hub: &impl HubAccess,
    stopping: &dyn Fn() -> bool,
) -> Result<(), Setback> {
    let spool = Spool::open(&terms.directory)?;
    for name in spool.incoming()? {
        if stopping() {
            break;
        }
        let desk = Desk { supplier, terms, spool: &spool, name: &name };
        let done = desk.take_in(hub, stopping);
        // One file that cannot be taken in now does not keep the next from it.
        acquisition.note(&format!("{}, {name}", supplier.name), done);
    }
    Ok(())
}

/// One batch file on its way.
struct Desk<'a> {
    supplier: &'a Supplier,
    terms: &'a SpoolTerms,
    spool: &'a Spool<'a>,
    name: &'a str,
}

impl Desk<'_> {
    fn take_in(&self, hub: &impl HubAccess, stopping: &dyn Fn() -> bool) -> Result<(), Setback> {
        let unreadable = |error: io::Error| Setback::Later(format!("it cannot be read: {error}"));
        let mut file = self.spool.batch_file(self.name)?;
        let digest = digest(&mut file, stopping).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        let source_name = format!("{}/{}", self.supplier.name, self.name);
        if let Some(batch) = hub.batch_with_digest(digest)? {
            let (id, pins) = (batch.batch.0, batch.received);
            // The hub has it and was stopped before the file was put away.
            if batch.source.name == source_name && !self.spool.is_done(self.name, self.terms.keep_files)? {
                return self.accept(digest, Accepted { batch: id, pins });
            }
            let before = &batch.source.name;
            return self
                .reject(digest, &format!("the same file was delivered before, as {before}: batch {id}"));
        }
        let expected = match self.expected(hub, digest, source_name)? {
            Ok(expected) => expected,
            Err(why) => return self.reject(digest, &why),
        };
        match hub.intake(&expected, &self.terms.profile, &file) {
            Ok(accepted) => self.accept(digest, accepted),
            Err(Setback::Refused(why)) => self.reject(digest, &why),
            Err(later) => Err(later),
        }
    }

    /// What the file should hold, by its name; or why that cannot be said.
    fn expected(
        &self,
        hub: &impl HubAccess,
        digest: u128,
        source_name: String,
    ) -> Result<Result<Expected, String>, Setback> {
        let number = order_number(self.name);
        let registry = hub.registry()?;
        let code = match number {
            None => self.terms.variety.clone(),
            Some(number) => {
                let orders = hub.orders()?;
                let order = orders
                    .iter()
                    .find(|order| (order.number, &order.supplier) == (number, &self.supplier.name));
                let Some(order) = order else {
                    return Ok(Err(format!("supplier {} has no order {}", self.supplier.name, number.0)));
                };
                registry.variety(order.variety).map(|variety| variety.code.clone())
            }
        };
        let Some(variety) = code else {
            let why = "its name begins with no order number, and nothing says what such files hold: \
                       name it order-NUMBER.…, or set `variety` for this supplier";
            return Ok(Err(why.to_owned()));
        };
        let source = Source { order: number.unwrap_or_default(), digest, name: source_name };
        Ok(Ok(Expected { variety, expiry: self.terms.life.expiry(hub.now_ms()), source }))
    }

    fn accept(&self, digest: u128, accepted: Accepted) -> Result<(), Setback> {
        let Accepted { batch, pins } = accepted;
        let report = self.report(digest, "taken in", pins, &format!("batch      {batch}\n"));
        self.spool.finish(self.name, End::Done, &report, self.terms.keep_files)?;
        tracing::info!("{}, {}: {pins} PINs taken in as batch {batch}", self.supplier.name, self.name);
        Ok(())
    }

    fn reject(&self, digest: u128, why: &str) -> Result<(), Setback> {
        let report = self.report(digest, "rejected", 0, &format!("\n{why}\n"));
        self.spool.finish(self.name, End::Rejected, &report, true)?;
        let first = why.lines().next().unwrap_or_default();
        tracing::warn!("{}, {}: rejected: {first}", self.supplier.name, self.name);
        Ok(())
    }

    fn report(&self, digest: u128, outcome: &str, accepted: u64, more: &str) -> String {
        let Self { supplier, name, .. } = self;
        format!(
            "file       {name}\nsupplier   {}\nxxh3-128   {digest:032x}\noutcome    {outcome}\naccepted   {accepted} \
             PINs\n{more}",
            supplier.name
        )
    }
}

/// XXH3 with 128 bits of a file from where it stands.
fn digest(file: &mut File, stopping: &dyn Fn() -> bool) -> io::Result<u128> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if stopping() {
            return Err(io::Error::other("the process is stopping"));
        }
        match file.read(&mut buffer)? {
            0 => return Ok(hash.digest128()),
            length => hash.update(&buffer[..length]),
        }
    }
}

const READ_BYTES: usize = 1 << 18;
