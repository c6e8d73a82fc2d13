//! Taking stock in: a supplier's file, or PINs of our own.

use super::super::hub::Batches;
use super::super::hub_node::HubDesk;
use super::{Desk, NotDone, Office};
use crate::disk::mapped::MappedDisk;
use crate::hub::{Command, Done};
use crate::ids::BatchId;
use crate::intake::{
    BLOCKS_RESERVED, Delivery, DeliveryOrder, Profile, Progress, Recipe, Source, Tools, intake_file, mint,
};
use crate::stock::Expiry;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// What a delivery came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The batch.
    pub batch: u64,
    /// The variety's code.
    pub variety: String,
    /// PINs received.
    pub pins: u64,
    /// Blocks they were sealed into.
    pub blocks: usize,
}

impl Office {
    /// Takes in a supplier's file.
    ///
    /// # Errors
    /// [`NotDone`]; nothing was taken in then, unless the hub did not answer.
    pub fn intake(
        &self,
        variety: &str,
        profile: &Profile,
        expiry: Expiry,
        input: impl Read,
        input_bytes: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Delivered, NotDone> {
        self.deliver(variety, expiry, Source::default(), progress, |order, tools| {
            intake_file(order, profile, input, input_bytes, tools).map_err(Into::into)
        })
    }

    /// Issues PINs. Their serials are the recipe's prefix, the batch number and a counter.
    ///
    /// # Errors
    /// [`NotDone`]; nothing was issued then, unless the hub did not answer.
    pub fn mint(
        &self,
        variety: &str,
        recipe: &Recipe,
        expiry: Expiry,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Delivered, NotDone> {
        self.mint_for(Source::default(), variety, recipe, expiry, progress)
    }

    /// The same for an order.
    pub(in crate::network) fn mint_for(
        &self,
        source: Source,
        variety: &str,
        recipe: &Recipe,
        expiry: Expiry,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Delivered, NotDone> {
        self.deliver(variety, expiry, source, progress, |order, tools| {
            let serial_prefix = format!("{}{:06}", recipe.serial_prefix, order.batch.0);
            mint(order, &Recipe { serial_prefix, ..recipe.clone() }, tools).map_err(Into::into)
        })
    }

    pub(in crate::network) fn deliver(
        &self,
        code: &str,
        expiry: Expiry,
        source: Source,
        progress: &mut dyn FnMut(Progress),
        make: impl FnOnce(&DeliveryOrder, &mut Tools<'_, MappedDisk>) -> Result<Delivery, NotDone>,
    ) -> Result<Delivered, NotDone> {
        let registry = self.registry()?;
        let unknown = || NotDone::NoSuchVariety(code.to_owned());
        let variety = registry.variety_by_code(code).ok_or_else(unknown)?;
        let reserve = Command::Reserve { blocks: BLOCKS_RESERVED as u32 };
        let Done::Reserved { batch, blocks } = self.command(reserve)? else {
            unreachable!("a reservation is answered by one")
        };
        let Desk { clock, random, .. } = &*self.desk;
        let HubDesk { batches, disk, keys, fingerprints, .. } = self.hub()?;
        let mut seed = [0; 32];
        random(&mut seed);
        let order = DeliveryOrder {
            batch,
            variety: variety.id,
            face_value: variety.face_value,
            currency_digits: variety.currency_digits,
            expiry,
            blocks,
            now_ms: clock().unix_ms,
            seed,
        };
        let mut job = Job { batches, batch, committed: false };
        batches.begin(batch);
        let counts = |batch| batches.counts(batch);
        let fingerprints = &**fingerprints;
        let mut tools = Tools { disk: &**disk, keys, fingerprints, counts: &counts, progress };
        let delivery = Delivery { source, ..make(&order, &mut tools)? };
        let blocks = delivery.blocks.len();
        let Done::Delivered { received: pins } = self.command(Command::Deliver(delivery))? else {
            unreachable!("a delivery is answered by one")
        };
        job.committed = true;
        Ok(Delivered { batch: batch.0, variety: code.to_owned(), pins, blocks })
    }
}

/// Keeps a batch counting while it is under way, whatever way that ends.
struct Job<'a> {
    batches: &'a Batches,
    batch: BatchId,
    committed: bool,
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.batches.end(self.batch, self.committed);
    }
}
